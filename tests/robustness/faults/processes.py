"""Waiting for what the system does in its own time."""

import time

from moe_lightning.system.signals import is_alive


def ends_within(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process ends in that time."""
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)
