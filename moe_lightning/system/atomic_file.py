"""Atomic writes: a file is complete or absent, even if the writing process is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Context manager for an atomic write: yields a temporary path, then renames it to ``path``.

    A killed process leaves the old file or the new one, and perhaps a ``.partial`` that the next write
    overwrites. The contents reach the disk before the rename, so a power cut leaves no empty file.

    Raises:
        OSError: The disk is full or refuses; the old file stays, and the new one is removed.
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


def write_text(path: Path, text: str) -> None:
    """Write a text by an atomic write."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, contents: bytes) -> None:
    """Write bytes by an atomic write."""
    with whole_file(path) as partial:
        partial.write_bytes(contents)


def keep_as(path: Path, kept: Path) -> None:
    """Hard-link a file to a second name, replacing any file there; without support for links, do nothing."""
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
