"""Progress bars for work over two seconds."""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

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
