"""Memory: a message when it runs out, and a limit on the processes of a CPU."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Trainer

from moe_lightning.data.audio import SAMPLE_RATE
from moe_lightning.data.batches import AudioBatch, GateBatch, SpeechBatch
from moe_lightning.errors import InputError

AnyBatch = AudioBatch | SpeechBatch | GateBatch | None
MOST_NAMED = 8
"""Utterances named in the message, longest first."""
TRAINING = (
    "lower data.batch_size (--expert-batch-size and --asr-batch-size of the pipeline) or data.max_seconds and raise"
    " trainer.accumulate_grad_batches in the same measure, train in bf16-mixed, or with model.gradient_checkpointing;"
    " the same command then goes on from its last checkpoint"
)
_WORDS = ("can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed")
"""Wording of the CPU allocator, the system, CUDA, and cuBLAS or cuDNN in a plain RuntimeError."""
_READER = "DataLoader worker"


@contextmanager
def explained(batch: AnyBatch | Callable[[], AnyBatch], way_out: str) -> Iterator[None]:
    """Context manager for work on batches: an out-of-memory error names the batch.

    Args:
        batch: The current batch, or a function that returns it; None before the first one.
        way_out: Settings that would help.

    Raises:
        InputError: Memory ran out, or a process that reads audio ended.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            worked_on = described(batch() if callable(batch) else batch)
            raise InputError("training.out-of-memory", f"out of memory at {worked_on}; {way_out}", worked_on) from error
        if isinstance(error, RuntimeError) and str(error).startswith(_READER):
            raise InputError(
                "training.out-of-memory",
                f"a process that reads audio has ended ({' '.join(str(error).split())}), most often for want of memory;"
                " lower num_workers, or give the machine more shared memory (/dev/shm); the same command then goes on",
                "num_workers",
            ) from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """True for an out-of-memory error, from torch or by its wording."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def described(batch: AnyBatch) -> str:
    """A batch in words: number of utterances, seconds with padding, and the longest ids."""
    if batch is None:
        return "the model itself, before the first batch"
    if isinstance(batch, GateBatch):
        return f"a batch of {len(batch.soft_labels_BE)} utterances' embeddings"
    num_samples_B = batch.waveforms.num_samples_B if isinstance(batch, AudioBatch) else batch.num_samples_B
    seconds = {
        id_: num_samples / SAMPLE_RATE for id_, num_samples in zip(batch.ids, num_samples_B.tolist(), strict=True)
    }
    longest = sorted(seconds, key=lambda id_: -seconds[id_])
    named = ", ".join(f"{id_!r} {seconds[id_]:.1f} s" for id_ in longest[:MOST_NAMED])
    more = f" and {len(longest) - MOST_NAMED} shorter ones" if len(longest) > MOST_NAMED else ""
    padded = len(longest) * seconds[longest[0]]
    return f"a batch of {len(longest)} utterances, {padded:.1f} s with padding: {named}{more}"


ALWAYS_ALLOWED = 4
"""Processes on any machine, however few its cores."""


def check_cpu_processes(trainer: Trainer) -> None:
    """Raise an InputError for more processes than processor cores, before they are started.

    Each process holds the speech model: dozens of them use up the memory of a small machine, and stop it.
    """
    most = max(ALWAYS_ALLOWED, os.cpu_count() or 1)
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > most:
        raise InputError(
            "setting.hardware",
            f"devices {trainer.num_devices} on a CPU starts as many processes, each with the speech model; this machine"
            f" has {os.cpu_count()} cores: give at most {most}, or 1",
            f"devices={trainer.num_devices}",
        )
