"""Where a command that is no training runs."""

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
