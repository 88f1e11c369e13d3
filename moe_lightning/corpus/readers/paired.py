"""Recordings with a text file of the same name each (``a.wav`` and ``a.txt`` or ``a.lab``), in any folders."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from moe_lightning.corpus.entry import Entry, stand_in_speaker
from moe_lightning.corpus.readers.columns import NO_TEXT, Columns, id_from_path
from moe_lightning.corpus.readers.split_names import split_in_name
from moe_lightning.data.audio import OTHER_SUFFIXES
from moe_lightning.system.plain_files import read_text, visible

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".au", ".aiff", ".aif", ".w64", ".sph")
TEXT_SUFFIXES = (".txt", ".lab")
_SPLIT_FOLDERS = 2
"""Upper folders whose names may tell the split."""


def is_paired(root: Path, own: Columns = ()) -> bool:
    """True if root is a folder with a recording beside a text of its name; with `NO_TEXT`, with any recording."""
    return root.is_dir() and any(NO_TEXT in own or _text_of(path) for path in _recordings(root))


def read_paired(root: Path, own: Columns = ()) -> Iterator[Entry]:
    """Entries of all recordings; one without a text is an entry without a transcript, which the check refuses.

    The split is the name of an upper folder (``train``, ``dev-clean`` ...), if one of them is for training: a folder
    ``dev`` alone may be of somebody called so. The folder stands for the speaker.
    """
    top = root.absolute()
    paths = sorted(_recordings(top))
    _warn_of_lone_texts(paths)
    for path, split in zip(paths, split_of_folders(paths, top), strict=True):
        text = _text_of(path)
        yield Entry(
            split=split,
            id=id_from_path(path, top),
            audio_file=path,
            text=" ".join(read_text(text).split()) if text else "",
            speaker=stand_in_speaker(path, top),
            origin=str(text or path),
        )


def _warn_of_lone_texts(recordings: Sequence[Path]) -> None:
    stems = {path.with_suffix("") for path in recordings}
    beside = (text for folder in sorted({path.parent for path in recordings}) for text in sorted(visible(folder, "*")))
    lone = [text for text in beside if text.suffix.lower() in TEXT_SUFFIXES and text.with_suffix("") not in stems]
    if lone:
        warnings.warn(f"{len(lone)} texts have no recording of their name, the first is {lone[0]}", stacklevel=2)


def split_of_folders(paths: Sequence[Path], top: Path) -> list[str]:
    """Split of each recording by the names of its upper folders; train for all unless one of them is for training."""
    splits = [_split_of(path, top) for path in paths]
    return [split or "train" for split in splits] if "train" in splits else ["train"] * len(paths)


def _split_of(path: Path, top: Path) -> str | None:
    folders = path.relative_to(top).parts[:-1][:_SPLIT_FOLDERS]
    return next((split for name in folders if (split := split_in_name(name))), None)


def _recordings(root: Path) -> Iterator[Path]:
    """Recordings; also those in formats that are not read, if a text is beside: the check names them."""
    for path in visible(root, "**/*"):
        suffix = path.suffix.lower()
        if (suffix in AUDIO_SUFFIXES or (suffix in OTHER_SUFFIXES and _text_of(path))) and path.is_file():
            yield path


def _text_of(path: Path) -> Path | None:
    suffixes = (*TEXT_SUFFIXES, *(suffix.upper() for suffix in TEXT_SUFFIXES))
    return next((text for suffix in suffixes if (text := path.with_suffix(suffix)).is_file()), None)
