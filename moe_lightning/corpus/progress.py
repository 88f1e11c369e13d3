"""A progress bar for what takes longer than two seconds."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

QUIET_SECONDS = 2.0


def show_progress(items: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Pass the items on; a bar appears on stderr once they have taken two seconds."""
    iterator = enumerate(items)
    started = time.monotonic()
    for number, item in iterator:
        yield item
        if time.monotonic() - started > QUIET_SECONDS:
            yield from _with_bar((rest for _, rest in iterator), number + 1, total, description)


def _with_bar(items: Iterator[T], num_done: int, total: int, description: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, completed=num_done)
        for item in items:
            yield item
            progress.advance(task)
