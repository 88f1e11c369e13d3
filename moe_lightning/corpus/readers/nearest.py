"""For a corpus of no known form: the form that it comes nearest to, and what is missing."""

from itertools import islice
from pathlib import Path

from moe_lightning.corpus.readers.columns import NAMES, Role, roles_of
from moe_lightning.corpus.readers.jsonl import SUFFIXES as JSON_SUFFIXES
from moe_lightning.corpus.readers.jsonl import keys_of
from moe_lightning.corpus.readers.paired import AUDIO_SUFFIXES
from moe_lightning.corpus.readers.tables import SUFFIXES as TABLE_SUFFIXES
from moe_lightning.corpus.readers.tables import heads_of

_MOST = 50
"""Files looked at."""


def nearest_form(root: Path) -> str:
    """The end of a sentence about root; "" if nothing resembles a corpus."""
    folder = root if root.is_dir() else root.parent
    files = [root] if root.is_file() else sorted(path for path in folder.glob("*") if path.is_file())
    for path in islice(files, _MOST):
        if path.suffix.lower() in TABLE_SUFFIXES:
            return _of_columns(path, heads_of(path))
        if path.name.endswith(JSON_SUFFIXES) and (keys := keys_of(path)):
            return _of_columns(path, keys)
    names = {path.name for path in folder.glob("*")}
    if "text" in names:
        return "is nearest to a Kaldi data directory, and has no wav.scp"
    if "clips" in names:
        return "is nearest to Common Voice, and has no train.tsv or validated.tsv beside clips"
    found = sum(1 for _ in islice((path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES), 1000))
    if found:
        return (
            f"has {found if found < 1000 else 'over 1000'} recordings and no transcripts; put a .txt of the same name"
            " beside each, or a table (metadata.csv) with the columns file_name and text"
        )
    return ""


def _of_columns(path: Path, names: tuple[str, ...]) -> str:
    roles = roles_of(names)
    needed: tuple[Role, ...] = ("audio", "text")
    missing = [role for role in needed if role not in roles]
    if not missing:
        return f"has {path.name}, which is no list of recordings that can be read"
    known = "; ".join(f"{role}: {', '.join(NAMES[role])}" for role in missing)
    wanted = " ".join(f"{role}=NAME" for role in missing)
    return (
        f"has {path.name} with {', '.join(names) or 'nothing in it'}, and none of these is known as {known};"
        f" name it with --columns {wanted}"
    )
