"""Which layout lies at a path."""

from collections.abc import Iterator
from pathlib import Path

from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.readers.guide import is_guide_layout, read_guide_layout
from moe_lightning.corpus.readers.jsonl import find_manifests, read_jsonl
from moe_lightning.errors import InputError

LAYOUTS = ("guide", "jsonl")
_KNOWN = (
    "Train|Dev/<contributor>/<contributor>.json; train.jsonl, dev.jsonl, test.jsonl in a folder;"
    " PREFIX_train.jsonl ...; or one .jsonl file"
)


def read_corpus(root: Path) -> list[Entry]:
    """Every utterance that the corpus lists; ids are unique.

    Args:
        root: A folder, a manifest, or the prefix of manifests: ``corpus/smoke`` for ``corpus/smoke_train.jsonl`` ...

    Raises:
        InputError: Nothing is there, no layout is recognised, it is malformed, or an id comes twice.
    """
    entries = list(_read(root))
    if not entries:
        raise InputError(f"{root} lists no utterance; the corpus is empty")
    _refuse_repeated_ids(entries)
    return entries


def _read(root: Path) -> Iterator[Entry]:
    manifests = find_manifests(root)
    if manifests:
        for split, path in manifests.items():
            yield from read_jsonl(path, split)
    elif root.suffix == ".jsonl" and root.is_file():
        yield from read_jsonl(root, None)
    elif is_guide_layout(root):
        yield from read_guide_layout(root)
    elif not root.exists():
        raise InputError(f"--dataset-root {root} does not exist; expected: {_KNOWN}")
    else:
        raise InputError(f"--dataset-root {root} holds no corpus of a known form; expected: {_KNOWN}")


def _refuse_repeated_ids(entries: list[Entry]) -> None:
    origins: dict[str, str] = {}
    for entry in entries:
        if entry.id in origins:
            raise InputError(
                f"{entry.origin}: id {entry.id!r} was already used by {origins[entry.id]}; ids must be unique"
            )
        origins[entry.id] = entry.origin
