"""The ladder's runs: a folder for each system, learning rate and seed, each made by `moe-lightning pipeline`.

Stages that two runs have in common are made once and linked, so that corpus, embeddings and, where only
the joint stage differs, clusters, gate and experts are the very same.
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
from moe_lightning.faults.signals import Stopped, name_as_parent
from moe_lightning.ladder.rows import Row
from moe_lightning.ladder.tuning import rate_flags
from moe_lightning.run_dir import RunDir, Stage

_SEEDED = ("clustering.seed", "gating.seed_everything", "experts.seed_everything", "moe.seed_everything")
"""What a seed of the ladder changes; corpus and embeddings are the same for all."""


class Training(NamedTuple):
    """One run of the ladder."""

    row: Row
    lr_factor: float
    seed: int


@dataclass(frozen=True)
class Ladder:
    """Where a ladder lies and what all its runs have in common.

    Args:
        path: Folder of the ladder.
        flags: The user's flags of the pipeline.
        rates: Learning rate of each stage that trains experts, before tuning.
        jobs: Runs at a time.
    """

    path: Path
    flags: tuple[str, ...]
    rates: dict[str, float]
    jobs: int = 1
    finished: list[Training] = field(default_factory=list)
    """Runs of this process, in the order in which they were asked for."""
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def run(self, training: Training) -> RunDir:
        """Folder of a run."""
        name = f"lr_x{training.lr_factor:g}"
        return RunDir(self.path / "runs" / training.row.name / name / f"seed_{training.seed}")

    def command(self, training: Training) -> list[str]:
        """Arguments of `moe-lightning pipeline`, with which a person would make the run by hand."""
        row = training.row
        seeds = [f"--set={setting}={training.seed}" for setting in _SEEDED]
        rates = rate_flags(self.rates, training.lr_factor) if training.lr_factor != 1 else ()
        systems = f"--set=evaluation.systems={','.join(row.systems)}"
        return [*self.flags, *seeds, *rates, *row.flags, systems, "--run-dir", str(self.run(training).path)]

    def finish(self, trainings: Iterable[Training]) -> None:
        """Run every training to its end, `jobs` at a time; those that are finished answer at once.

        Raises:
            InputError: One of them stopped; the others have ended, and the same command goes on from there.
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
                f"{len(failed)} of {len(wanted)} runs of the ladder stopped; the first one's output is in {failed[0]};"
                f" once mended, the same command goes on from here{_told_error(failed[0])}"
            )
        self.finished.extend(wanted)

    def _link_shared(self, training: Training) -> None:
        """Link the stages that the run has in common with one that is finished; what is there already stays."""
        run = self.run(training)
        run.path.mkdir(parents=True, exist_ok=True)
        for stage in training.row.shared_stages:
            source = self._source(training, stage)
            link = run.stage_dir(stage)
            if source and not link.exists():
                link.symlink_to(os.path.relpath(source.stage_dir(stage), link.parent), target_is_directory=True)

    def _source(self, training: Training, stage: Stage) -> RunDir | None:
        """A finished run of the mixture whose stage is the one that this run would make."""
        for other in self.finished:
            is_same_seed = stage in ("corpus", "embedding") or other.seed == training.seed
            is_same_rate = stage != "experts" or other.lr_factor == training.lr_factor
            if other.row.name == "mixture" and is_same_seed and is_same_rate:
                return self.run(other)
        return None

    def _finish_one(self, training: Training) -> Path | None:
        """Run a training; its output's file where it failed."""
        log = self.run(training).path / "ladder.log"
        started = time.monotonic()
        with log.open("a", encoding="utf-8") as output:
            command = [sys.executable, "-m", "moe_lightning.pipeline", *self.command(training)]
            environment = {**os.environ}
            name_as_parent(environment)  # a run does not outlive its ladder
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
            self._processes.append(process)
            code = process.wait()
        words = f"{time.monotonic() - started:.0f} s" if code == 0 else f"stopped (code {code}), see {log}"
        print(f"{training.row.name:<12} lr x{training.lr_factor:<5g} seed {training.seed:<6} {words}", flush=True)
        return log if code else None


def _told_error(log: Path) -> str:
    """The last error in a run's output, as the end of a message; nothing where there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f" ({errors[-1]})" if errors else ""
