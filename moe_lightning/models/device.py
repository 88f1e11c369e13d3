"""Device, precision and determinism of commands other than training."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from moe_lightning.errors import InputError


def choose_device(accelerator: str) -> torch.device:
    """The GPU if there is one, unless ``accelerator`` is ``cpu``.

    Raises:
        InputError: A GPU is requested and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not has_gpu:
        raise InputError(
            "setting.hardware",
            f"--accelerator {accelerator}, but this machine has no CUDA GPU; use auto or cpu",
            f"--accelerator {accelerator}",
        )
    return torch.device("cuda" if has_gpu and accelerator != "cpu" else "cpu")


AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Half-precision settings, with the Lightning Trainer's names."""
PRECISIONS = ("32-true", *AUTOCAST)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Context in which a command other than training computes in one of the Trainer's precisions.

    Raises:
        InputError: The precision is unknown, or the device does not support it.
    """
    if precision not in PRECISIONS:
        raise InputError(
            "setting.choice",
            f"--precision must be one of {', '.join(PRECISIONS)}, got {precision!r}",
            f"--precision {precision}",
        )
    if precision == "16-mixed" and device.type == "cpu":
        raise InputError(
            "setting.hardware",
            "--precision 16-mixed needs a GPU; on a CPU take bf16-mixed or 32-true",
            f"--precision {precision}",
        )
    if precision == "32-true":
        return nullcontext()
    return torch.autocast(device.type, AUTOCAST[precision])


@contextmanager
def deterministic(is_wanted: bool) -> Iterator[None]:
    """Context of deterministic computation on a GPU, as under the Trainer; nondeterministic operations raise an error.

    Args:
        is_wanted: False changes nothing.
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
