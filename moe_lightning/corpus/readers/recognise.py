"""Recognition of the corpus layout at a path."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.readers.annotated import is_annotated, read_annotated
from moe_lightning.corpus.readers.columns import Columns
from moe_lightning.corpus.readers.common_voice import is_common_voice, read_common_voice
from moe_lightning.corpus.readers.containment import refuse_outside
from moe_lightning.corpus.readers.guide import is_guide_layout, read_guide_layout
from moe_lightning.corpus.readers.hugging_face import is_hugging_face, read_hugging_face
from moe_lightning.corpus.readers.jsonl import is_jsonl, read_jsonl_corpus
from moe_lightning.corpus.readers.kaldi import is_kaldi, read_kaldi
from moe_lightning.corpus.readers.lhotse_cuts import is_lhotse, is_shar, read_lhotse, read_shar
from moe_lightning.corpus.readers.librispeech import is_librispeech, read_librispeech
from moe_lightning.corpus.readers.nearest import nearest_form
from moe_lightning.corpus.readers.paired import is_paired, read_paired
from moe_lightning.corpus.readers.tables import is_table, read_tables
from moe_lightning.corpus.readers.unpacked_audio import UnpackedAudio
from moe_lightning.errors import InputError
from moe_lightning.system.plain_files import as_on_disk


class Reading(NamedTuple):
    """Place of unpacked audio, and names of columns, while a corpus is read."""

    unpacked: UnpackedAudio
    """Place of audio from archives and tables."""
    columns: Columns = ()
    """Own names of columns."""


class Layout(NamedTuple):
    """A corpus layout."""

    looks_like: str
    """Files on disk, for messages."""
    is_here: Callable[[Path, Columns], bool]
    read: Callable[[Path, Reading], Iterator[Entry]]


def _files(looks_like: str, is_here: Callable[[Path], bool], read: Callable[[Path], Iterator[Entry]]) -> Layout:
    """A layout with recordings in files, and names of its own."""
    return Layout(looks_like, lambda root, columns: is_here(root), lambda root, reading: read(root))


def _rows(
    looks_like: str, is_here: Callable[[Path, Columns], bool], read: Callable[[Path, Columns], Iterator[Entry]]
) -> Layout:
    """A layout of rows with columns, whose names are the user's."""
    return Layout(looks_like, is_here, lambda root, reading: read(root, reading.columns))


def _packed(
    looks_like: str, is_here: Callable[[Path], bool], read: Callable[[Path, UnpackedAudio], Iterator[Entry]]
) -> Layout:
    """A layout with recordings in archives or tables."""
    return Layout(looks_like, lambda root, columns: is_here(root), lambda root, reading: read(root, reading.unpacked))


LAYOUTS: dict[str, Layout] = {
    "lhotse": _packed("cuts.jsonl.gz", is_lhotse, read_lhotse),
    "jsonl": _rows("manifests of a JSON object a line (NeMo, WeNet): train.jsonl ...", is_jsonl, read_jsonl_corpus),
    "guide": _files("Train/NAME/NAME.json", is_guide_layout, read_guide_layout),
    "common-voice": _files("train.tsv and clips/", is_common_voice, read_common_voice),
    "librispeech": _files("train-*/*/*/*.trans.txt", is_librispeech, read_librispeech),
    "kaldi": _files("wav.scp and text", is_kaldi, read_kaldi),
    "shar": _packed("cuts.000000.jsonl.gz and recording.000000.tar", is_shar, read_shar),
    "huggingface": Layout(
        "*.arrow or *.parquet",
        lambda root, columns: is_hugging_face(root),
        lambda root, reading: read_hugging_face(root, reading.unpacked, reading.columns),
    ),
    "table": _rows("CSV or TSV with a header: train.csv ..., metadata.csv", is_table, read_tables),
    "paired": _rows("recordings with a .txt or .lab of the same name", is_paired, read_paired),
    "annotated": Layout(
        "recordings with a .TextGrid or .eaf of the same name",
        lambda root, columns: is_annotated(root),
        lambda root, reading: read_annotated(root, reading.columns),
    ),
}
"""Tried in this order. The names are also `LAYOUTS` of the settings, in this order."""
WITH_COLUMNS = ("table", "jsonl", "huggingface", "annotated")
"""Layouts whose columns a user may name."""


def read_corpus(
    root: Path,
    layout: str = "auto",
    audio_dir: Path | None = None,
    *,
    columns: Columns = (),
    allow_outside_root: bool = False,
) -> list[Entry]:
    """Every utterance listed in the corpus, as from `list_entries`; ids are unique.

    Raises:
        InputError: As in `list_entries`, or an id comes twice.
    """
    entries = list_entries(root, layout, audio_dir, columns=columns, allow_outside_root=allow_outside_root)
    _refuse_repeated_ids(entries)
    return entries


def list_entries(
    root: Path,
    layout: str = "auto",
    audio_dir: Path | None = None,
    *,
    columns: Columns = (),
    allow_outside_root: bool = False,
) -> list[Entry]:
    """Every utterance listed in the corpus.

    Args:
        root: A folder, a manifest, or the prefix of manifests: ``corpus/smoke`` for ``corpus/smoke_train.jsonl`` ...
        layout: One of `LAYOUTS`; ``auto`` takes the first match.
        audio_dir: Folder for audio unpacked from archives and tables; None is beside root.
        columns: Own names of columns in tables and manifests.
        allow_outside_root: Accept recordings outside root.

    Raises:
        InputError: Nothing is there, no layout is recognised, it is malformed, or a recording lies elsewhere.
    """
    name = find_layout(root, layout, columns)
    _refuse_columns(name, columns)
    unpacked = UnpackedAudio(audio_dir or root.with_name(f"{root.name}-unpacked"))
    entries = [_as_on_disk(entry) for entry in LAYOUTS[name].read(root, Reading(unpacked, columns))]
    if not entries:
        raise InputError("corpus.empty", f"{root} lists no utterance; the corpus is empty", root)
    if not allow_outside_root:
        refuse_outside(entries, root, unpacked.folder)
    return entries


def _refuse_columns(layout: str, columns: Columns) -> None:
    named = [f"{role}={name}" for role, name in columns if name]
    if named and layout not in WITH_COLUMNS:
        raise InputError(
            "setting.conflict",
            f"--columns {named[0]}: this corpus is read as {layout}, whose names are fixed; --columns is for"
            f" {', '.join(WITH_COLUMNS)}: insist on one with --layout",
            f"--columns {named[0]}",
        )


def _as_on_disk(entry: Entry) -> Entry:
    file = as_on_disk(entry.audio_file)
    return entry if file == entry.audio_file else replace(entry, audio_file=file)


def find_layout(root: Path, layout: str = "auto", columns: Columns = ()) -> str:
    """The name of the layout at root, in `LAYOUTS`.

    Raises:
        InputError: There is none, or not the requested one.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise InputError(
            "setting.choice",
            f"--layout must be auto or one of {', '.join(LAYOUTS)}, got {layout!r}",
            f"--layout {layout}",
        )
    names = list(LAYOUTS) if layout == "auto" else [layout]
    found = next((name for name in names if LAYOUTS[name].is_here(root, columns)), None)
    if found:
        return found
    raise InputError("corpus.unknown-form", f"the corpus {root} {_missing(root, names)}", root)


def _missing(root: Path, names: list[str]) -> str:
    """The nearest form with its missing part, or all forms; the end of a sentence."""
    if not root.exists():
        return "does not exist"
    nearest = nearest_form(root)
    if nearest and len(names) > 1:
        return nearest
    known = "; ".join(f"{name}: {LAYOUTS[name].looks_like}" for name in names)
    return f"holds no corpus of a known form; expected {known}"


def _refuse_repeated_ids(entries: list[Entry]) -> None:
    origins: dict[str, str] = {}
    for entry in entries:
        if entry.id in origins:
            raise InputError(
                "corpus.id-twice",
                f"{entry.origin}: id {entry.id!r} was already used by {origins[entry.id]}; ids must be unique",
                entry.id,
            )
        origins[entry.id] = entry.origin
