"""A progress bar for whatever takes longer than two seconds, and nothing for what does not."""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def say(what: str) -> None:
    """Tell on stderr what is being done, where it is seconds of different things rather than many of one."""
    print(f"{what} ...", file=sys.stderr, flush=True)


def progress(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on stderr that appears after two seconds.

    Args:
        total: How many items there are; None asks the items for their length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    yield from tqdm(items, desc=description, total=total, delay=2.0, mininterval=0.5)
