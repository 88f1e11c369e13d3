"""One run at a time writes to a folder.

The lock is the operating system's: it ends with the process, however that ends, so a run that was killed
leaves nothing to clear. Its file also says who holds it, because some network file systems keep such
locks within one machine only: there, a lock of another machine holds as long as it is renewed.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from moe_lightning.errors import InputError

RENEWED_EVERY = 60.0
"""Seconds."""
STALE_AFTER = 900.0
"""Seconds without renewal after which a lock of another machine counts as left behind."""
LOCK_FILE = "writing.lock"


class FolderLock:
    """A lock that this process holds."""

    def __init__(self, path: Path, file: TextIO):
        self.path = path
        self._file = file
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Show that the work goes on; cheap enough to be called with every batch."""
        if time.monotonic() - self._renewed > RENEWED_EVERY:
            os.utime(self.path)
            self._renewed = time.monotonic()


class LockWatch:
    """For a process that writes beside the holder of a folder's lock, as the other ranks of a run do.

    When the holder is killed, its ranks live on until they wait for it. Meanwhile another run may have begun,
    and would number its files as they do.
    """

    def __init__(self, folder: Path):
        self.path = folder / LOCK_FILE
        self._holder = self._signed()

    def check(self) -> None:
        """Call it before anything is written.

        Raises:
            InputError: The folder is another run's now.
        """
        signed = self._signed()
        self._holder = self._holder or signed
        if signed and signed != self._holder:
            raise InputError(
                f"{self.path.parent} was taken over by another run ({signed}); this process is left of a run that was"
                " killed, and ends"
            )

    def _signed(self) -> str:
        """Who holds the lock, "" where that cannot be read (just now)."""
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError:
            return ""


@contextmanager
def locked(folder: Path) -> Iterator[FolderLock]:
    """Hold the folder's lock.

    Raises:
        InputError: Another process holds it; the message names process and machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    file = _acquire(path)
    try:
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%dT%H:%M:%S")}, file)
        file.flush()
        os.fsync(file.fileno())  # other machines are to read it
        yield FolderLock(path, file)
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits for it looks again
        file.close()


def _acquire(path: Path) -> TextIO:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by processes that read audio
        except OSError as error:
            holder = _holder(file)
            file.close()
            raise _refusal(path, holder) from error
        if not _is_still_there(path, file):  # its holder has ended in between
            file.close()
            continue
        holder = _holder(file)
        is_elsewhere = holder.get("host") not in (None, socket.gethostname())
        if is_elsewhere and time.time() - path.stat().st_mtime < STALE_AFTER:
            file.close()
            raise _refusal(path, holder)
        return file


def _is_still_there(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(file: TextIO) -> dict[str, Any]:
    file.seek(0)
    try:
        values = json.loads(file.read())
    except ValueError:  # nobody has signed it yet
        return {}
    return values if isinstance(values, dict) else {}


def _refusal(path: Path, holder: dict[str, Any]) -> InputError:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"
    return InputError(
        f"{path.parent} is being written by another run ({who}); wait for it or choose another --run-dir;"
        f" if that run is gone, remove {path}"
    )
