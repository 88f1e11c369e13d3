"""What people call the splits."""

import re

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "eval": "test",
}


def split_in_name(name: str) -> str | None:
    """The split that a file's or folder's name speaks of: ``cuts_train-clean-100.jsonl.gz`` -> train.

    None when there is none; the first word counts when there are several.
    """
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
