"""The window that Whisper reads: word errors, loops, seconds and memory, before and after one LoRA is trained over it.

    python benchmarks/window.py WHISPER_FOLDER --train sentences_en_train.jsonl --dev sentences_en_dev.jsonl

For each window the bare model and the trained one transcribe the same recordings over that window, greedily and
unguarded. Trainings are compared at equal steps, and at equal time: each goes on until it has had the seconds that the
longest window took, or ``--seconds``. One thread, float32, constant learning rate, batches of a fixed seed.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from recordings import Row, read_rows, waveforms, word_error_rate

from moe_lightning.models.backbones.decoding import MOST_COMPRESSION, DecodeOptions, compression_ratio
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.experts import SpeechExperts

EXACT = DecodeOptions(guard=False)


class Heard(NamedTuple):
    """Transcripts of the dev recordings by one model over one window."""

    wer: float
    """In percent."""
    loops: int
    """Texts with a compression ratio over 2.4."""
    seconds: float
    """Processor time."""


class Plan(NamedTuple):
    """Settings that are the same for all windows."""

    whisper: str
    train: list[Row]
    dev: list[Row]
    steps: int
    batch_size: int
    rate: float
    seed: int


def main() -> None:
    options = parser().parse_args()
    plan = Plan(
        options.whisper,
        read_rows(options.train),
        read_rows(options.dev)[:: options.every],
        options.steps,
        options.batch_size,
        options.lr,
        options.seed,
    )
    windows = sorted(options.windows, key=lambda window: float(window) if window != "real" else 0.0, reverse=True)
    budget: float | None = options.seconds
    names = ("window", "training", "steps", "train s", "WER, %", "loops", "decode s", "memory, GB")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for window in windows:
        with get_context("spawn").Pool(1) as pool:  # a process a window: its peak memory is its own
            rows, budget = pool.apply(measure, (plan, window, None if options.equal_steps_only else budget))
        print("\n".join(rows), flush=True)


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whisper", help="folder or hub id of a Whisper model")
    parser.add_argument("--train", type=Path, required=True, help="manifest, one JSON object a line")
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--every", type=int, default=2, help="take every so many of the dev recordings; default 2")
    parser.add_argument("--windows", nargs="+", default=["real", "10", "15", "20", "30"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--seconds", type=float, help="of the trainings of equal time; default those of the longest window"
    )
    parser.add_argument("--equal-steps-only", action="store_true", help="leave the trainings of equal time out")
    return parser


def measure(plan: Plan, window: str, budget: float | None) -> tuple[list[str], float]:
    """The table's rows of one window, and the seconds that its steps took or that were given."""
    torch.set_num_threads(1)
    torch.manual_seed(plan.seed)
    experts = SpeechExperts(load_backbone(plan.whisper, window), ExpertConfig(num_experts=1, rank=32, alpha=64.0))
    bare = hear(experts, plan, gate=0.0)
    training = train(experts, plan)
    equal_steps = next(step for step in training if step.steps == plan.steps)
    rows = [row(window, "none", bare, 0, 0.0)]
    seconds = equal_steps.seconds
    rows.append(row(window, "equal steps", hear(experts, plan), plan.steps, seconds))
    if budget is not None and seconds < budget:
        last = next(step for step in training if step.seconds >= budget)
        rows.append(row(window, "equal time", hear(experts, plan), last.steps, last.seconds))
    return rows, max(budget or 0.0, seconds)


class Step(NamedTuple):
    """A training, so far."""

    steps: int
    seconds: float


def train(experts: SpeechExperts, plan: Plan) -> Iterator[Step]:
    """One LoRA, step by step for ever; seconds of processor time, without what the caller does in between."""
    optimizer = torch.optim.AdamW(experts.expert_parameters(), lr=plan.rate, weight_decay=0.01)
    order, seconds, steps = np.random.default_rng(plan.seed), 0.0, 0
    while True:
        permutation = order.permutation(len(plan.train))
        for start in range(0, len(permutation) - plan.batch_size + 1, plan.batch_size):
            batch = [plan.train[row] for row in permutation[start : start + plan.batch_size]]
            started = time.process_time()
            experts.train()
            waveforms_BL, lengths_B = waveforms(batch)
            texts, languages = [row["text"] for row in batch], [row["language"] for row in batch]
            loss = experts.loss(waveforms_BL, lengths_B, texts, languages, torch.ones(len(batch), 1))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(experts.expert_parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seconds, steps = seconds + time.process_time() - started, steps + 1
            yield Step(steps, seconds)


@torch.no_grad()
def hear(experts: SpeechExperts, plan: Plan, gate: float = 1.0) -> Heard:
    """Transcribe the dev recordings over the model's window; gate 0 leaves the LoRA out."""
    experts.eval()
    started, texts = time.process_time(), []
    for start in range(0, len(plan.dev), 16):
        batch = plan.dev[start : start + 16]
        gate_B1 = torch.full((len(batch), 1), gate)
        frames = experts.encode(*waveforms(batch), gate_B1)
        texts += experts.decode(frames, [row["language"] for row in batch], gate_B1, options=EXACT).texts
    seconds = time.process_time() - started
    loops = sum(compression_ratio(text) > MOST_COMPRESSION for text in texts)
    return Heard(word_error_rate(plan.dev, texts), loops, seconds)


def row(window: str, training: str, heard: Heard, steps: int, seconds: float) -> str:
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    cells = (f"{heard.wer:.1f}", str(heard.loops), f"{heard.seconds:.0f}", f"{gigabytes:.1f}")
    return f"| {window} | {training} | {steps} | {seconds:.0f} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
