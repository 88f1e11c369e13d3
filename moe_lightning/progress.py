"""A progress bar for whatever takes longer than two seconds, and nothing for what does not."""

from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TypeVar

from tqdm import tqdm

T_co = TypeVar("T_co", covariant=True)


class SizedIterable(Sized, Iterable[T_co], Protocol[T_co]):
    """What a bar can be drawn for: its length is known."""


def progress(items: SizedIterable[T_co], description: str) -> Iterator[T_co]:
    """Iterate with a bar on stderr that appears after two seconds."""
    yield from tqdm(items, desc=description, total=len(items), delay=2.0, mininterval=0.5)
