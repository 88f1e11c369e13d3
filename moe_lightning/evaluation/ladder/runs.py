"""Runs of the ladder: one folder per system, learning rate and seed, each made by `moe-lightning pipeline`.

Stages common to two runs are made once and linked. So corpus and embeddings are identical; and clusters, gate and
experts too, if only the joint stage differs.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from moe_lightning.errors import InputError
from moe_lightning.evaluation.ladder.rows import Row
from moe_lightning.evaluation.ladder.tuning import rate_flags
from moe_lightning.run.folder import RunDir
from moe_lightning.run.stages import Stage
from moe_lightning.system.signals import Stopped, name_as_parent

_SEEDED = ("clustering.seed", "gating.seed_everything", "experts.seed_everything", "moe.seed_everything")
"""Settings that a ladder seed changes; corpus and embeddings are the same for all seeds."""


class Training(NamedTuple):
    """One run of the ladder."""

    row: Row
    lr_factor: float
    seed: int


@dataclass(frozen=True)
class Ladder:
    """Folder of a ladder, and everything common to its runs.

    Args:
        path: Folder of the ladder.
        flags: The user's flags for the pipeline.
        rates: Learning rate per stage that trains experts, before tuning.
        jobs: Number of parallel runs.
    """

    path: Path
    flags: tuple[str, ...]
    rates: dict[str, float]
    jobs: int = 1
    finished: list[Training] = field(default_factory=list)
    """Runs finished by this process, in the order of the requests."""
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def run(self, training: Training) -> RunDir:
        """Folder of a run."""
        name = f"lr_x{training.lr_factor:g}"
        return RunDir(self.path / "runs" / training.row.name / name / f"seed_{training.seed}")

    def command(self, training: Training) -> list[str]:
        """Arguments for `moe-lightning pipeline` that make the run by hand."""
        row = training.row
        seeds = [f"--set={setting}={training.seed}" for setting in _SEEDED]
        rates = rate_flags(self.rates, training.lr_factor) if training.lr_factor != 1 else ()
        systems = f"--set=evaluation.systems={','.join(row.systems)}"
        return [*self.flags, *seeds, *rates, *row.flags, systems, "--run-dir", str(self.run(training).path)]

    def finish(self, trainings: Iterable[Training]) -> None:
        """Run all trainings to the end, `jobs` at a time; finished ones return at once.

        Raises:
            InputError: A run stopped. The others have ended, and the same command continues from there.
        """
        wanted = [training for training in trainings if training not in self.finished]
        for training in wanted:
            self._link_shared(training)
        with ThreadPoolExecutor(max_workers=self.jobs) as pool:
            try:
                failed = [log for log in pool.map(self._finish_one, wanted) if log]
            except Stopped:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in self._processes:
                    process.terminate()
                raise
        if failed:
            raise InputError(
                "ladder.failed",
                f"{len(failed)} of {len(wanted)} runs of the ladder stopped; the first one's output is in {failed[0]};"
                f" once mended, the same command goes on from here{_told_error(failed[0])}",
                failed[0],
            )
        self.finished.extend(wanted)

    def _link_shared(self, training: Training) -> None:
        """Link stages shared with a finished run; existing stages stay."""
        run = self.run(training)
        run.path.mkdir(parents=True, exist_ok=True)
        for stage in training.row.shared_stages:
            source = self._source(training, stage)
            link = run.stage_dir(stage)
            if source and not link.exists():
                link.symlink_to(os.path.relpath(source.stage_dir(stage), link.parent), target_is_directory=True)

    def _source(self, training: Training, stage: Stage) -> RunDir | None:
        """A finished run of the mixture with the same result in this stage."""
        for other in self.finished:
            is_same_seed = stage in ("corpus", "embedding") or other.seed == training.seed
            is_same_rate = stage != "experts" or other.lr_factor == training.lr_factor
            if other.row.name == "mixture" and is_same_seed and is_same_rate:
                return self.run(other)
        return None

    def _finish_one(self, training: Training) -> Path | None:
        """Run a training; returns its log file if it failed, else None."""
        log = self.run(training).path / "ladder.log"
        started = time.monotonic()
        with log.open("a", encoding="utf-8") as output:
            command = [sys.executable, "-m", "moe_lightning.run.pipeline", *self.command(training)]
            environment = {**os.environ}
            name_as_parent(environment)  # a run does not outlive its ladder
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
            self._processes.append(process)
            code = process.wait()
        words = f"{time.monotonic() - started:.0f} s" if code == 0 else f"stopped (code {code}), see {log}"
        print(f"{training.row.name:<12} lr x{training.lr_factor:<5g} seed {training.seed:<6} {words}", flush=True)
        return log if code else None


def _told_error(log: Path) -> str:
    """Last error in a run's output, as the end of a message; "" without one."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f" ({errors[-1]})" if errors else ""
