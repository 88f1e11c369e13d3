"""Containment check: recordings must lie in the corpus's own folder, unless the user allows others."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from moe_lightning.corpus.entry import Entry
from moe_lightning.errors import InputError


def refuse_outside(entries: Sequence[Entry], root: Path, unpacked_dir: Path) -> None:
    """Accept only recordings below the corpus's folder or the folder of unpacked audio, after following links.

    Args:
        root: The corpus: a folder, or a manifest or prefix of manifests, for which their folder counts.

    Raises:
        InputError: Recordings lie elsewhere; names the first, its place, and the number of others.
    """
    folder = root if root.is_dir() else root.parent
    inside = [_real(str(one.absolute())) for one in (folder, unpacked_dir)] + _hub_blobs(folder.absolute())
    outside = [one for one in entries if not _is_below(_real_file(one), inside)]
    if not outside:
        return
    first, more = outside[0], f" (and {len(outside) - 1} more like it)" if len(outside) > 1 else ""
    raise InputError(
        "corpus.outside-root",
        f"{first.origin}: {first.audio_file} lies outside of the corpus, in {os.path.dirname(_real_file(first))}{more};"
        f" a corpus from elsewhere could name any file of yours. If you trust {root}, run the same command with"
        " --allow-outside-root",
        first.audio_file,
    )


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path.startswith(folder if folder.endswith("/") else f"{folder}/") for folder in folders)


def _real_file(entry: Entry) -> str:
    """Real path of a recording; folders, shared by many recordings, are resolved once."""
    folder, name = os.path.split(entry.audio_file)
    try:
        path = os.path.join(_real(folder), name)
        return os.path.realpath(path) if name in ("", ".", "..") or os.path.islink(path) else path
    except ValueError as error:
        raise InputError(
            "corpus.bad-row", f"{entry.origin}: {str(entry.audio_file)!r} is no name of a file ({error})", entry.origin
        ) from error


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _hub_blobs(folder: Path) -> list[str]:
    """Blobs folder of the Hugging Face cache: it keeps a dataset as links in ``snapshots/<commit>`` to ``blobs``."""
    blobs = folder.parent.parent / "blobs"
    is_cache = folder.parent.name == "snapshots" and blobs.is_dir() and not blobs.is_symlink()
    return [os.path.realpath(blobs)] if is_cache else []
