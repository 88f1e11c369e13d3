"""Where a command that is no training runs, and whether each time to the same bits."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from moe_lightning.errors import InputError


def choose_device(accelerator: str) -> torch.device:
    """The GPU where there is one, unless told otherwise.

    Raises:
        InputError: A GPU is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not has_gpu:
        raise InputError(f"--accelerator {accelerator}, but this machine has no CUDA GPU; use auto or cpu")
    return torch.device("cuda" if has_gpu and accelerator != "cpu" else "cpu")


@contextmanager
def deterministic(is_wanted: bool) -> Iterator[None]:
    """Within it a GPU computes the same bits each time, or an operation that cannot raises; as the Trainer has it.

    Args:
        is_wanted: False leaves everything as it is.
    """
    was_enabled, was_tuned = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if is_wanted:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS reads it when its first product is computed
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_enabled)
        torch.backends.cudnn.benchmark = was_tuned
