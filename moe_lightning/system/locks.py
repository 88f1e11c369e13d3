"""Lock file: one run at a time writes to a folder.

The operating system holds the lock and releases it when the process ends, even by SIGKILL, so no cleanup is
needed. The file also names its holder, because some network file systems keep such locks within one machine
only: there, a lock from another machine is valid as long as it is renewed.
"""

import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from moe_lightning.errors import InputError
from moe_lightning.system.json_files import parse_json
from moe_lightning.system.signals import parent_by_name

RENEWED_EVERY = 60.0
"""Seconds."""
STALE_AFTER = 900.0
"""Seconds without renewal until a lock from another machine counts as abandoned."""
LOCK_FILE = "writing.lock"


class LockWatch:
    """Lock check for a process that writes beside the lock's holder, such as another rank of the same run.

    If the holder is killed, its ranks go on until they next wait for it. Meanwhile a new run may have begun, and
    its files would have the same numbers.
    """

    def __init__(self, folder: Path):
        self.path = folder / LOCK_FILE
        self._holder = self._signed()

    def check(self) -> None:
        """Call before each write.

        Raises:
            InputError: The folder now belongs to another run.
        """
        signed = self._signed()
        self._holder = self._holder or signed
        if signed and signed != self._holder:
            raise InputError(
                "folder.lost",
                f"{self.path.parent} was taken over by another run ({signed}); this process is left of a run that was"
                " killed, and ends",
                self.path.parent,
            )

    def _signed(self) -> str:
        """Contents of the lock file; "" if unreadable (for the moment)."""
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError:
            return ""


@contextmanager
def locked(folder: Path, name: str = LOCK_FILE, patience: float = 0.0) -> Iterator[None]:
    """Context manager that holds a lock on the folder; reentrant within a process.

    Args:
        name: Name of the lock file; locks with different names are independent.
        patience: Seconds to wait for a holder that is about to end.

    Raises:
        InputError: Another process holds it; the message names process and machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / name).absolute()
    if _held.get(path) == os.getpid():
        yield
        return
    file = _acquire(path, time.monotonic() + patience)
    ended = threading.Event()
    try:
        _sign(file)
        _held[path] = os.getpid()
        threading.Thread(target=_renew, args=(path, ended), daemon=True).start()
        yield
    finally:
        ended.set()
        _held.pop(path, None)
        path.unlink(missing_ok=True)  # while held: a waiting process checks again
        file.close()


def holder_of(path: Path) -> int | None:
    """Process on this machine named in a lock file; None if there is none.

    The lock's holder must not call it: closing the file would release its lock.
    """
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_here = isinstance(values, dict) and values.get("host") == socket.gethostname()
    return values["pid"] if is_here and isinstance(values.get("pid"), int) else None


_held: dict[Path, int] = {}
"""Locks held by this process: the system's lock would end with the first closed file."""


def _sign(file: TextIO) -> None:
    file.seek(0)
    file.truncate()
    json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%dT%H:%M:%S")}, file)
    file.flush()
    os.fsync(file.fileno())  # other machines read it


def _renew(path: Path, ended: threading.Event) -> None:
    """Renew the lock file's time until the lock is released."""
    while not ended.wait(RENEWED_EVERY):
        with suppress(OSError):
            os.utime(path)


def _acquire(path: Path, deadline: float) -> TextIO:
    while True:
        file = path.open("a+", encoding="utf-8")
        if not _lock(file):
            holder = _holder(file)
            file.close()
            if time.monotonic() >= deadline:
                raise _refusal(path, holder)
            time.sleep(0.05)
            continue
        if not _is_still_there(path, file):  # its holder has ended in between
            file.close()
            continue
        holder = _holder(file)
        is_elsewhere = holder.get("host") not in (None, socket.gethostname())
        if is_elsewhere and time.time() - path.stat().st_mtime < STALE_AFTER:
            file.close()
            raise _refusal(path, holder)
        return file


def _lock(file: TextIO) -> bool:
    """True if this process now has the lock."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by processes that read audio
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        print(
            f"warning: the file system of {file.name} keeps no locks ({error.strerror}); see to it that no second run"
            " writes there",
            file=sys.stderr,
        )
    return True


def _is_still_there(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(file: TextIO) -> dict[str, Any]:
    file.seek(0)
    try:
        values = parse_json(file.read())
    except ValueError:  # not yet signed
        return {}
    return values if isinstance(values, dict) else {}


def _refusal(path: Path, holder: dict[str, Any]) -> InputError:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"
    return InputError(
        "folder.busy",
        f"{path.parent} is being written by another run ({who}); wait for it or choose another --run-dir;"
        f" if that run is gone, remove {path}",
        path.parent,
    )


RUN_LOCK = "run.lock"
STAGE_LOCK = "stage.lock"
PATIENCE = 5.0
"""Seconds for a stage to end after its pipeline was killed."""


@contextmanager
def pipeline_lock(folder: Path) -> Iterator[None]:
    """Context manager that locks a run for a pipeline; the pipeline's stages may work on it.

    Raises:
        InputError: Another process works on the run; the message names process and machine.
    """
    with locked(folder, RUN_LOCK):
        with locked(folder, STAGE_LOCK, PATIENCE):
            pass  # no stage of a killed pipeline is left
        yield


@contextmanager
def stage_lock(folder: Path) -> Iterator[None]:
    """Context manager that locks a run for a stage.

    Raises:
        InputError: Another process works on the run, and is not the pipeline that started this stage.
    """
    with ExitStack() as held:
        parent = parent_by_name()
        if parent is None or holder_of(folder / RUN_LOCK) != parent:
            held.enter_context(locked(folder, RUN_LOCK))
        held.enter_context(locked(folder, STAGE_LOCK))
        yield
