"""Growth of a long training: memory and open files over 10,000 batches of the joint stage.

    python benchmarks/soak.py [--batches 10000] [--json FILE]

A tiny Whisper of random weights, tones for a corpus, and everything else as shipped: two processes that read
audio, all callbacks, TensorBoard, a validation with transcripts and two checkpoints every 250 batches. Every 50
batches the training's own process is asked for its resident memory and its open files. The first fifth is
warm-up; growth is the slope of a straight line through the rest, per 1,000 batches.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from moe_lightning.clustering.__main__ import main as cluster
from moe_lightning.corpus.__main__ import main as corpus
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.experts.__main__ import main as experts
from moe_lightning.gating.__main__ import main as gating
from moe_lightning.models.backbones.names import NANO_DIR
from moe_lightning.moe.__main__ import main as moe
from moe_lightning.run.folder import RunDir

ROOT = Path(__file__).parents[1]
SIZES = {"train": 500, "dev": 8, "test": 4}
BATCH_SIZE = 2
EPOCH = SIZES["train"] // BATCH_SIZE
EVERY = 50
"""Batches from one measurement to the next."""
WARM_UP = 0.2
"""Share of the batches that is left out of the growth."""
SAMPLE_RATE = 16_000


class Meter(Callback):
    """Asks the system for this process's memory and open files."""

    rows: "list[dict[str, float]]" = []  # noqa: RUF012  of the one training of this process

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.num_batches = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.num_batches += 1
        if self.num_batches % EVERY == 0:
            row = {"batches": self.num_batches, "seconds": time.monotonic() - self.started, **measured()}
            self.rows.append(row)
            if self.num_batches % EPOCH == 0:
                print("\nsoak:", ", ".join(f"{name} {value:.0f}" for name, value in row.items()), flush=True)


def measured() -> dict[str, float]:
    """Resident MiB of this process, its open files, and the processes that read for it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "resident_mib": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "open_files": len(os.listdir("/proc/self/fd")),
        "children": len(children),
    }


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=10_000, help="default 10000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements here")
    options = parser.parse_args()
    sys.argv = sys.argv[:1]
    try:
        with tempfile.TemporaryDirectory() as folder:
            soak(Path(folder), options.batches)
    finally:  # one that is stopped has its figures too
        report(options.json)


def report(file: Path | None) -> None:
    """Print the figures; write them, with all measurements, where a file is named."""
    figures = summary(Meter.rows) if Meter.rows else {}
    print("\n".join(f"{name:<40} {value:10.3f}" for name, value in figures.items()))
    if file:
        file.write_text(json.dumps({"figures": figures, "rows": Meter.rows}, indent=1) + "\n")


def soak(folder: Path, num_batches: int) -> None:
    """All stages up to the joint one, then that one for so many batches."""
    torch.set_num_threads(1)
    model, run = tiny_whisper(folder / "model"), RunDir(folder / "run")
    tones = write_tones(folder / "tones")
    corpus(["--dataset-root", str(tones), "--run-dir", str(run.path)])
    embed(["--run-dir", str(run.path), "--whisper-model", str(model), "--num-workers", "0", "--accelerator", "cpu"])
    places = ["--embedding-dir", str(run.embedding_dir(str(model))), "--output-dir", str(run.stage_dir("clustering"))]
    cluster([*places, "--algorithm", "kmeans", "--num-experts", "4", "--plot", "none", "--no-report"])
    gating(_fit("gating", run, model, "--trainer.max_epochs", "2"))
    experts(_fit("experts", run, model, "--trainer.max_epochs", "1", "--model.max_decoded_batches", "1"))
    meter = ["--trainer.callbacks+=__main__.Meter"] if __name__ == "__main__" else []
    meter = meter or [f"--trainer.callbacks+={__name__}.Meter"]
    flags = ["--data.batch_size", str(BATCH_SIZE), "--model.max_decoded_batches", "1"]
    flags += ["--trainer.max_epochs", str(-(-num_batches // EPOCH)), "--early_stopping.patience", "1000000"]
    moe(_fit("moe", run, model, *flags, *meter))


def summary(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """First and last measurement after the warm-up, and the growth per 1,000 batches."""
    kept = [row for row in rows if row["batches"] > WARM_UP * rows[-1]["batches"]]
    batches_M = np.array([row["batches"] for row in kept])
    figures = {"batches": rows[-1]["batches"], "minutes": rows[-1]["seconds"] / 60}
    for name in ("resident_mib", "open_files", "children"):
        values_M = np.array([row[name] for row in kept])
        figures |= {f"{name}_after_warm_up": values_M[0], f"{name}_at_the_end": values_M[-1]}
        figures[f"{name}_per_1000_batches"] = 1000 * float(np.polyfit(batches_M, values_M, 1)[0])
    return {name: float(value) for name, value in figures.items()}


def tiny_whisper(folder: Path) -> Path:
    """Random weights, two layers of 32, with the nano model's tokenizer."""
    settings = WhisperConfig.from_pretrained(NANO_DIR).to_dict()
    small = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig(**{**settings, **small, **heads}))
    model.generation_config = GenerationConfig.from_pretrained(NANO_DIR)
    model.save_pretrained(folder)
    for file in [*NANO_DIR.glob("*token*"), *NANO_DIR.glob("preprocessor*")]:
        shutil.copy(file, folder)
    return folder


def write_tones(folder: Path) -> Path:
    """A manifest a split, four speakers each, a third to nearly one second an utterance."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in SIZES.items():
        lines = []
        for number in range(count):
            name = f"{split}_{number}"
            times_L = np.arange(int(rng.uniform(0.3, 0.9) * SAMPLE_RATE)) / SAMPLE_RATE
            waveform_L = 0.2 * np.sin(2 * np.pi * (200 + 400 * (number % 4)) * times_L)
            soundfile.write(folder / f"{name}.wav", waveform_L + 0.02 * rng.normal(size=len(times_L)), SAMPLE_RATE)
            row = {"id": name, "audio_filepath": f"{name}.wav", "text": "a b c", "speaker": f"{split}_{number % 4}"}
            lines.append(json.dumps({**row, "accent": "ab"[number % 2]}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


def _fit(stage: str, run: RunDir, model: Path, *flags: str) -> list[str]:
    command = ["fit", "--config", str(ROOT / "configs" / f"{stage}.yaml"), "--run_dir", str(run.path)]
    command += ["--trainer.accelerator", "cpu"]
    command += [] if stage == "moe" else ["--model.whisper_model", str(model)]
    return [*command, *flags]


if __name__ == "__main__":
    main()
