"""One pipeline at a time works on a run, and one stage: by hand, or of that pipeline.

There are two locks. A pipeline, or a stage that a person has started, holds the run. Every stage that writes
holds the second one too, so that a stage which outlives its killed pipeline is not overtaken by the next one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from moe_lightning.faults.folder_lock import holder_of, locked
from moe_lightning.faults.signals import parent_by_name

RUN_LOCK = "run.lock"
STAGE_LOCK = "stage.lock"
PATIENCE = 5.0
"""Seconds that a stage which lost its pipeline may take to end."""


@contextmanager
def pipeline_lock(folder: Path) -> Iterator[None]:
    """Hold a run for a pipeline; its stages take part.

    Raises:
        InputError: Another process works on the run; the message names process and machine.
    """
    with locked(folder, RUN_LOCK):
        with locked(folder, STAGE_LOCK, PATIENCE):
            pass  # no stage is left of a pipeline that was killed
        yield


@contextmanager
def stage_lock(folder: Path) -> Iterator[None]:
    """Hold a run for a stage.

    Raises:
        InputError: Another process works on the run, and it is not the pipeline that has started this one.
    """
    with ExitStack() as held:
        parent = parent_by_name()
        if parent is None or holder_of(folder / RUN_LOCK) != parent:
            held.enter_context(locked(folder, RUN_LOCK))
        held.enter_context(locked(folder, STAGE_LOCK))
        yield
