"""Files that are there whole or not at all, whatever ends the process that writes them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; what lies there takes the place of ``path`` when it is written.

    A process that is killed leaves the old file or the new one, and perhaps a ``.partial`` that the next one
    overwrites. The file reaches the disk before its name does, so that a power cut leaves no empty file.

    Raises:
        OSError: The disk is full or refuses; the old file stays, and nothing is left of the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)  # in a folder from elsewhere it may be a link to another file
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # some file systems sync no folders
        _sync(path.parent)


def keep_as(path: Path, kept: Path) -> None:
    """Let a file be there under another name too, in place of what had that; without links it is not."""
    link = kept.with_name(kept.name + ".partial")
    with suppress(OSError):
        link.unlink(missing_ok=True)
        os.link(path, link)
        link.replace(kept)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
