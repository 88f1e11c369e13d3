"""End of a command: one line for an error that a user can mend, an exit code for a signal."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import ParamSpec

from moe_lightning.errors import InputError, printable
from moe_lightning.system.signals import STOP, Stopped, end_with_parent
from moe_lightning.system.torch_pair import told_with_causes, torchaudio_complaint

P = ParamSpec("P")


def exits_cleanly(main: Callable[P, None]) -> Callable[P, None]:
    """Decorator: an `InputError` or a system error becomes one line on stderr and exit code 2.

    SIGTERM and SIGINT also end the command with one line, and with codes 143 and 130.
    ``MOE_LIGHTNING_TRACEBACK=1`` keeps the traceback, for debugging this package.
    """

    @wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        end_with_parent()
        try:
            with STOP.listening():
                main(*args, **kwargs)
        except Stopped as stopped:
            if not stopped.is_told:  # by a command that this one started
                print(stopped, file=sys.stderr)
            stopped.is_told = True
            raise
        except BrokenPipeError:  # `... | head` closed our output: not an error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except Exception as error:
            if not _is_told(error):
                raise
            sys.exit(2)

    return wrapper


def end_in_one_line_while_importing() -> None:
    """Report errors while a command imports its modules as `exits_cleanly` does: an installed library may be broken."""

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, Exception) and _is_told(error):
            sys.stderr.flush()
            os._exit(2)  # the interpreter's own exit code would be 1
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = end


def _is_told(error: Exception) -> bool:
    """Print the one-line message for an error that a user can fix.

    Returns:
        False, with nothing printed, for other errors (their traceback says more) and under MOE_LIGHTNING_TRACEBACK=1.
    """
    complaint = _complaint(error)
    if complaint is None or os.environ.get("MOE_LIGHTNING_TRACEBACK") == "1":
        return False
    print(f"error: {printable(complaint)}", file=sys.stderr)
    return True


_LOST_PROCESS = ("Connection closed by peer", "Connection reset by peer", "remote process exited", "ncclRemoteError")
"""Words of gloo and NCCL where a process of a distributed training is gone."""


def _complaint(error: Exception) -> str | None:
    if not_loaded := torchaudio_complaint(error):
        return f"{not_loaded} [package.broken]"
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _LOST_PROCESS):
        error = InputError(
            "process.lost",
            "another process of this run has ended, and this one cannot go on without it; its own message says why. The"
            " same command goes on from here",
            "another process",
        )
    if isinstance(error, InputError):
        return f"{error} [{error.code}]"
    if isinstance(error, OSError):  # a folder without permission, a full disk: the system's message is enough
        return f"{told_with_causes(error)} [{'file.unwritable' if _is_refused_by_disk(error) else 'file.unreadable'}]"
    return f"a file cannot be written: {error} [file.unwritable]" if _is_refused_by_disk(error) else None


def _is_refused_by_disk(error: Exception) -> bool:
    """True for the wording of an OSError from a library that writes without Python's files."""
    words = ("No space left on device", "Read-only file system", "Disk quota exceeded", "File too large")
    of_torch = ("PytorchStreamWriter failed writing", "inline_container.cc")
    return any(word in str(error) for word in (*words, *of_torch))
