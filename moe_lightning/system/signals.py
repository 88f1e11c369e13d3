"""SIGTERM and SIGINT end a command: at once, or in a training after the current step, with a checkpoint.

This module neither waits nor cleans up; unfinished work is left as after a SIGKILL.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

_PARENT = "MOE_LIGHTNING_PARENT"
"""Environment variable with the process that started this one; this one ends with it."""
_PR_SET_PDEATHSIG = 1
"""From Linux' prctl(2)."""
_LIFE_AFTER_SIGTERM = 15
"""Seconds that a process still reads audio after SIGTERM, so that the training can finish its step."""


class Stopped(SystemExit):
    """A signal has ended the command; the exit code is 128 + its number, as in a shell."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.number = number
        self.is_told = False

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"


class StopSignals:
    """The handler of both signals; keeps the first one received."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal received."""
        self._came = 0.0
        self._is_postponed = False

    def __call__(self, number: int, frame: FrameType | None = None) -> None:
        """Take a signal; while postponed, only a second SIGINT, over a second later, ends at once."""
        is_first = self.number is None
        if is_first:
            self.number, self._came = number, time.monotonic()
        is_impatient = number == signal.SIGINT and not is_first and time.monotonic() - self._came > 1
        if not self._is_postponed or is_impatient:
            if _is_importing(frame):
                _end_now(number)
            raise Stopped(number)

    def listen(self) -> None:
        """Handle both signals, except a SIGINT that is already ignored, as in a background job."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if _is_main_thread() and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context manager around a command."""
        self.number = None
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        self.listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                if _is_main_thread():
                    signal.signal(number, handler)

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Context manager for work that checks `number` often and then ends."""
        self._is_postponed = True
        try:
            yield
        finally:
            self._is_postponed = False

    def end(self) -> None:
        """End the command if a signal was received.

        Raises:
            Stopped: A signal was received.
        """
        if self.number is not None:
            raise Stopped(self.number)


STOP = StopSignals()
"""For this process; it has one handler per signal."""


def name_as_parent(environment: MutableMapping[str, str]) -> None:
    """Set the environment of a new process so that it ends with this one."""
    environment[_PARENT] = str(os.getpid())


def parent_by_name() -> int | None:
    """The process of this package that started this one; None if started by a user."""
    parent = os.environ.get(_PARENT, "")
    return int(parent) if parent.isdigit() and int(parent) == os.getppid() else None


def end_with_parent() -> None:
    """End by SIGKILL when the pipeline or rank that started this process ends, for any reason."""
    parent = os.environ.get(_PARENT, "")
    if not parent.isdigit():
        return
    if parent_by_name() is not None and sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library without it
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_by_name() is None and not is_alive(int(parent)):  # it has ended in the meantime
        os._exit(128 + signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """True if the process exists on this machine and is not a zombie."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a system without /proc
        return True
    return state != "Z"


def serve_a_while(*_: Any) -> None:
    """Let a process that reads audio survive a signal to the whole group until the training has finished its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_LIFE_AFTER_SIGTERM) and None)


def end_quietly_while_importing() -> None:
    """Until a command handles signals, let them end it without a traceback; nothing can be lost yet."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if _is_main_thread() and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(128 + number))


def _is_importing(frame: FrameType | None) -> bool:
    """True if the frame runs below an import: libraries catch any exception there, and go on half imported."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _end_now(number: int) -> NoReturn:
    with suppress(Exception):  # a stream that is being written, or is closed
        print(Stopped(number), file=sys.stderr, flush=True)
        sys.stdout.flush()
    os._exit(128 + number)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
