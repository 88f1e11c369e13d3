"""The whole pipeline on a tiny corpus with a tiny model, in variants, to be killed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.places import ROOT
from tests.tones import write_tones
from tests.whisper_models import write_whisper

STAGES = ("corpus", "embedding", "clustering", "gating", "experts", "moe", "evaluation")


@dataclass(frozen=True)
class Variant:
    """How the stages are run."""

    name: str
    ranks: int = 1
    workers: int = 0
    accumulate: int = 1
    every_step: bool = False
    """A checkpoint with every optimizer step, instead of every epoch."""

    def flags(self, corpus: Path, model: Path) -> list[str]:
        """Of `moe-lightning pipeline`."""
        flags = ["--mode", "full", "--dataset-root", str(corpus), "--whisper-model", str(model)]
        flags += ["--clustering-algorithm", "spectral", "--num-experts", "2", "--no-plot", "--no-fp16"]
        flags += ["--accelerator", "cpu", "--devices", str(self.ranks), "--num-workers", str(self.workers)]
        flags += ["--strategy", "ddp"] if self.ranks > 1 else []
        flags += ["--gating-batch-size", "4", "--expert-batch-size", "3", "--asr-batch-size", "3"]
        flags += ["--gradient-accumulation-steps", str(self.accumulate)]
        settings = {"embedding.batch-size": 4, "embedding.shard-size": 8, "evaluation.num-resamples": 100}
        for stage in ("gating", "experts", "moe"):
            settings |= {f"{stage}.trainer.max_epochs": 2, f"{stage}.trainer.num_sanity_val_steps": 0}
            if self.every_step:
                settings |= {f"{stage}.resume.every_n_train_steps": 1, f"{stage}.resume.every_n_epochs": "null"}
                settings |= {f"{stage}.resume.save_on_train_epoch_end": "null"}
        settings |= {f"{stage}.model.max_decoded_batches": 1 for stage in ("experts", "moe")}
        return [*flags, *(f"--set={name}={value}" for name, value in settings.items())]


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("plain"),
        Variant("workers", workers=2),
        Variant("accumulation", accumulate=2, every_step=True),
        Variant("two_ranks", ranks=2),
        Variant("two_ranks_every_step", ranks=2, workers=2, accumulate=2, every_step=True),
    )
}


@dataclass(frozen=True)
class Fault:
    """A signal to a stage, right before a change of a file or after some time."""

    stage: str
    signal: str = "SIGKILL"
    event: int | None = None
    """Number of the change, from 1."""
    after: float | None = None
    """Seconds."""
    rank: int = 0
    """That counts the changes."""
    only_rank: bool = False
    """The other ranks are left to find out."""


@dataclass
class Forks:
    """The process that forks the stages."""

    process: "subprocess.Popen[str]" = field(init=False)

    def __post_init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        environment["TOKENIZERS_PARALLELISM"] = "false"
        command = [sys.executable, "-m", "tests.robustness.faults.forks"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)
        assert self._answer() == "ready"

    def run(self, variant: Variant, flags: list[str], run: Path, faults: Sequence["Fault"] = ()) -> dict[str, Any]:
        """Run what is not finished of a run, with the first fault of each stage; give how the stages ended."""
        kills = [asdict(fault) for fault in faults]
        job = {"run": str(run), "flags": flags, "ranks": variant.ranks, "kills": kills}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self._answer()))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def clear(folder: Path) -> Path:
    """An empty folder for a run, at the path that the compared one had."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder / "run"


def write_corpus_and_model(folder: Path) -> tuple[Path, Path]:
    """What the tests' fixtures are, without pytest."""
    corpus, model = folder / "corpus", folder / "tiny_whisper"
    corpus.mkdir(parents=True)
    return write_tones(corpus, {"train": 24, "dev": 6, "test": 6}), write_whisper(model)
