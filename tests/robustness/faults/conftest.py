"""What the tests of faults need of their process."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def heard_interrupts() -> Iterator[None]:
    """A shell starts jobs of the background with SIGINT ignored, and their children inherit it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
