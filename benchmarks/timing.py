"""Seconds, operations and memory of systems that take turns."""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode


class System(NamedTuple):
    """A model whose training step and decoding are timed."""

    name: str
    num_experts: int
    train: Callable[[], None] | None
    decode: Callable[[], None] | None
    adapter_mb: float


def measure(systems: list[System], rounds: int, has_gpu: bool) -> list[dict[str, Any]]:
    """Each system's seconds in every round, its operations, and the memory that a training step takes at most."""
    rows: list[dict[str, Any]] = [
        {"name": one.name, "num_experts": one.num_experts, "adapter_mb": one.adapter_mb, "train": [], "decode": []}
        for one in systems
    ]
    for turn in range(rounds + 1):  # the first turn warms up
        for system, row in zip(systems, rows, strict=True):
            for kind, work in (("train", system.train), ("decode", system.decode)):
                if work is None:
                    continue
                if not turn:
                    row[f"{kind}_operations"] = operations(work)
                    continue
                seconds, peak_mb = timed(work, has_gpu)
                row[kind].append(seconds)
                row[f"{kind}_peak_mb"] = peak_mb
    return rows


def operations(work: Callable[[], None]) -> int:
    """Of matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def timed(work: Callable[[], object], has_gpu: bool) -> tuple[float, float]:
    """Seconds, and the most memory above what lay there before, MB."""
    gc.collect()
    clock = time.perf_counter if has_gpu else time.process_time
    before = reset_peak(has_gpu)
    start = clock()
    work()
    if has_gpu:
        torch.cuda.synchronize()
    seconds = clock() - start
    return seconds, peak(has_gpu) - before


def reset_peak(has_gpu: bool) -> float:
    if has_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the greatest resident size
    return status("VmRSS")


def peak(has_gpu: bool) -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if has_gpu else status("VmHWM")


def status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))
