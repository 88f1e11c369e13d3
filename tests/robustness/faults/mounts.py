"""File systems of their own for a folder: too small, or read-only. They take the rights of root."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotMount(Exception):
    """This machine lets nobody mount here; the message is the system's."""


@contextmanager
def small_disk(folder: Path, num_bytes: int) -> Iterator[None]:
    """An empty file system of so many bytes; all of it is lost in the end.

    Raises:
        CannotMount: There is none to be had.
    """
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs"):
        yield


def enlarge(folder: Path, num_bytes: int) -> None:
    """Make room in a `small_disk`."""
    subprocess.run(["mount", "-o", f"remount,size={num_bytes}", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """What lies in a folder, not to be changed even by root.

    Raises:
        CannotMount: There is no such thing to be had.
    """
    with _mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield


@contextmanager
def _mounted(folder: Path, *options: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        raise CannotMount(mounted.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
