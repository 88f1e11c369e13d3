"""Locks for a run: one pipeline at a time, and one stage, by itself or within that pipeline.

There are two lock files. A pipeline, or a stage started by hand, holds the run lock. Every stage that writes
also holds the stage lock, so that no new pipeline overtakes a stage left over from a killed one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from moe_lightning.faults.folder_lock import holder_of, locked
from moe_lightning.faults.signals import parent_by_name

RUN_LOCK = "run.lock"
STAGE_LOCK = "stage.lock"
PATIENCE = 5.0
"""Seconds for a stage to end after its pipeline was killed."""


@contextmanager
def pipeline_lock(folder: Path) -> Iterator[None]:
    """Context manager that locks a run for a pipeline; the pipeline's stages may work on it.

    Raises:
        InputError: Another process works on the run; the message names process and machine.
    """
    with locked(folder, RUN_LOCK):
        with locked(folder, STAGE_LOCK, PATIENCE):
            pass  # no stage of a killed pipeline is left
        yield


@contextmanager
def stage_lock(folder: Path) -> Iterator[None]:
    """Context manager that locks a run for a stage.

    Raises:
        InputError: Another process works on the run, and is not the pipeline that started this stage.
    """
    with ExitStack() as held:
        parent = parent_by_name()
        if parent is None or holder_of(folder / RUN_LOCK) != parent:
            held.enter_context(locked(folder, RUN_LOCK))
        held.enter_context(locked(folder, STAGE_LOCK))
        yield
