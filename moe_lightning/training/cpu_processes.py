"""Limit on the processes of one machine's CPU; Lightning starts as many as ``devices`` asks for."""

import os

from lightning.pytorch import Trainer

from moe_lightning.errors import InputError

ALWAYS_ALLOWED = 4
"""Processes on any machine, however few its cores."""


def check_cpu_processes(trainer: Trainer) -> None:
    """Raise an InputError for more processes than processor cores, before they are started.

    Each process holds the speech model: dozens of them use up the memory of a small machine, and stop it.
    """
    most = max(ALWAYS_ALLOWED, os.cpu_count() or 1)
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > most:
        raise InputError(
            f"devices {trainer.num_devices} on a CPU starts as many processes, each with the speech model; this machine"
            f" has {os.cpu_count()} cores: give at most {most}, or 1"
        )
