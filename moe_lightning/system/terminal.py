"""Output of a command: progress bars, and warnings of libraries that users can do nothing about."""

import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from moe_lightning.errors import printable

T = TypeVar("T")


def say(what: str) -> None:
    """Print the current task on stderr, for several short tasks without a common bar."""
    print(f"{what} ...", file=sys.stderr, flush=True)


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on stderr that appears after two seconds.

    Args:
        total: Number of items; None takes the length of ``items``.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    yield from tqdm(items, desc=description, total=total, delay=2.0, mininterval=0.5)


_NOISY = (".mp3", ".mp2", ".mpga")
"""Files whose decoder, mpg123 in libsndfile, prints to the terminal by itself."""
_stderr = threading.Lock()


@contextmanager
def quiet_decoder(audio_file: Path) -> Iterator[None]:
    """Keep what a decoder prints; its first line becomes a warning with the file's name, once."""
    if audio_file.suffix.lower() not in _NOISY:
        yield
        return
    text = ""
    with _stderr, tempfile.TemporaryFile() as kept:
        terminal = _copy_of_stderr()  # under the lock: the descriptor may be another thread's file before
        if terminal is None:
            yield
            return
        sys.stderr.flush()
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
        kept.seek(0)
        text = kept.read(4096).decode(errors="replace").strip()
    if text:
        warnings.warn(f"{audio_file}: {printable(text.splitlines()[0])}", stacklevel=3)


def _copy_of_stderr() -> int | None:
    """A copy of the file descriptor; None for a process that has closed its stderr."""
    try:
        return os.dup(2)
    except OSError:
        return None


def _renew_lock() -> None:
    """A process that was forked while another thread held the lock would wait for ever."""
    global _stderr
    _stderr = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


_WARNINGS = (
    r".*treespec, LeafSpec.*",  # a deprecation inside Lightning
    r".*is smaller than the logging interval.*",  # small corpora are welcome
    r".*in eval mode at the start of training.*",  # the frozen backbone is
    r".*there is no last checkpoint available.*",  # the first run with `--ckpt_path last`
    r".*does not have many workers.*",
    r".*predict returned None.*",  # the module collects the embeddings
    r".*Total length of `FixedLoader` across ranks is zero.*",  # a finished store leaves nothing to do
    r".*Checkpoint directory .* exists and is not empty.*",  # so it does in a resumed run
)
_LOG_LINES = ("\N{ELECTRIC LIGHT BULB} Tip", "TPU available", "Loading `train_dataloader`")
_OURS = (Path(__file__).parents[1], Path(__file__).parents[2] / "callbacks")
_SHOWN = warnings.formatwarning


def quiet_libraries() -> None:
    """Drop these messages. Other warnings stay; those from this package take one line, without their source."""
    if warnings.formatwarning is _SHOWN:
        warnings.formatwarning = _in_one_line
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.addFilter(lambda record: not record.getMessage().startswith(_LOG_LINES))
        for handler in logger.handlers:
            handler.addFilter(lambda record: not record.getMessage().startswith(_LOG_LINES))


def _in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    if any(folder in Path(filename).parents for folder in _OURS):
        return f"\nwarning: {printable(str(message))}\n"  # a progress bar may be on the line
    return _SHOWN(message, category, filename, lineno, line)
