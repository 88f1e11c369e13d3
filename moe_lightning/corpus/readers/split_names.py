"""Common names of the splits."""

import re

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "development": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "eval": "test",
    "evaluation": "test",
}


def names_of(split: str) -> list[str]:
    """Names of a split, its own first: dev, development, val ..."""
    return [split, *(name for name, known in SPLIT_NAMES.items() if known == split and name != split)]


def split_in_name(name: str) -> str | None:
    """The split in a file's or folder's name: ``cuts_train-clean-100.jsonl.gz`` -> train.

    None if there is none; with several, the first word counts.
    """
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
