"""Train the nano backbone: ``python -m recipes.nano.train --output-dir DIR``.

Cross-entropy of the decoder plus character CTC on the encoder (Watanabe et al. 2017, hybrid CTC/attention): with
attention alone a model of this size takes far longer to find the alignment. The CTC layer is discarded afterwards.
The shipped weights took 42 minutes on two cores, 2,720 steps.
"""

import argparse
import random
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jiwer
import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from moe_lightning.corpus.demo import default_cache_dir
from moe_lightning.corpus.demo.grammar import random_sentence
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.base import Features
from moe_lightning.models.backbones.whisper import WhisperBackbone
from moe_lightning.system.exits import exits_cleanly
from recipes.nano import blueprint
from recipes.nano.speech import Speech, plain_utterances, random_words, speak, training_utterances

CHARACTERS = " abcdefghijklmnopqrstuvwxyz"
"""Labels 1.. of the CTC layer; 0 is its blank."""
REPORT_EVERY = 250
"""Steps between two evaluations of the word error rate."""


class Plan(NamedTuple):
    """Duration and speed of a training."""

    steps: int
    minutes: float
    """Training ends, and the learning rate reaches zero, after ``steps`` or this time."""
    batch_size: int
    learning_rate: float
    ctc_weight: float = 0.5
    warmup: float = 0.05
    """Share of the training with a rising learning rate."""


class Batch(NamedTuple):
    """Spectrograms and transcripts."""

    spectrograms: Features
    texts: list[str]


def batches(speech: Speech, batch_size: int, rng: random.Random, shortest_first: bool) -> Iterator[Batch]:
    """One epoch in batches of similar length, augmented, in random order or the shortest first."""
    lengths_N = np.diff(speech.ends_N, prepend=0)
    order = sorted(range(len(lengths_N)), key=lambda index: lengths_N[index] + rng.uniform(0, 20))
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if not shortest_first:
        rng.shuffle(groups)
    for group in groups:
        spectrograms = [_augmented(speech.spectrogram(index), rng) for index in group]
        yield collate(spectrograms, [speech.texts[index] for index in group])


def endless_batches(speech: Speech, batch_size: int, rng: random.Random) -> Iterator[Batch]:
    """Epoch after epoch; the first goes from short to long (SortaGrad, Amodei et al. 2016, section 3.2)."""
    yield from batches(speech, batch_size, rng, shortest_first=True)
    while True:
        yield from batches(speech, batch_size, rng, shortest_first=False)


def collate(spectrograms: list[np.ndarray], texts: list[str]) -> Batch:
    num_frames_B = torch.tensor([values_MT.shape[1] for values_MT in spectrograms])
    values_BMT = torch.zeros(len(texts), spectrograms[0].shape[0], int(num_frames_B.max()))
    for row, values_MT in enumerate(spectrograms):
        values_BMT[row, :, : values_MT.shape[1]] = torch.from_numpy(values_MT.astype(np.float32))
    return Batch(Features(values_BMT, num_frames_B), texts)


def _augmented(values_MT: np.ndarray, rng: random.Random) -> np.ndarray:
    """Random level (10 dB up or down), and light SpecAugment: one band and two spans masked."""
    values_MT = values_MT.astype(np.float32) + rng.uniform(-0.25, 0.25)
    band, low = rng.randint(0, 12), rng.randint(0, 67)
    values_MT[low : low + band] = 0
    for _ in range(2):
        span, start = rng.randint(0, 12), rng.randrange(values_MT.shape[1])
        values_MT[:, start : start + span] = 0
    return values_MT


def spelt(text: str) -> str:
    """Text in the CTC layer's characters; accents and all other characters are dropped."""
    plain = unicodedata.normalize("NFD", text.lower())
    return "".join(character for character in plain if character in CHARACTERS)


def ctc_loss(log_probs_BTV: Tensor, num_frames_B: Tensor, texts: list[str]) -> Tensor:
    """Mean CTC loss of the transcripts' characters, in nats a character."""
    labels = [[1 + CHARACTERS.index(character) for character in spelt(text)] for text in texts]
    lengths_B = torch.tensor([len(row) for row in labels])
    flat = torch.tensor([label for row in labels for label in row])
    return F.ctc_loss(log_probs_BTV.transpose(0, 1), flat, num_frames_B, lengths_B, zero_infinity=True)


def train(
    backbone: WhisperBackbone,
    speech: Speech,
    plan: Plan,
    seed: int,
    on_progress: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Train in place; the result is the loss of each step.

    In a process group every process trains on its own batches and the gradients are averaged; all must
    start from the same weights.

    Args:
        on_progress: Called every `REPORT_EVERY` steps with the step and the mean loss since the last call.
    """
    ctc_head = nn.Linear(backbone.embedding_dim, 1 + len(CHARACTERS))
    parameters = [p for p in (*backbone.parameters(), *ctc_head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=0.01)
    stream = endless_batches(speech, plan.batch_size, random.Random(seed))
    losses: list[float] = []
    started = time.monotonic()
    for step in range(plan.steps):
        backbone.train()
        loss = _loss(backbone, ctc_head, next(stream), plan.ctc_weight)
        optimizer.zero_grad()
        loss.backward()
        progress = max(step / plan.steps, (time.monotonic() - started) / (60 * plan.minutes))
        progress = _average(parameters, progress)
        if progress >= 1:
            break
        optimizer.param_groups[0]["lr"] = plan.learning_rate * min(progress / plan.warmup, 1 - progress, 1)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % REPORT_EVERY == 0:
            on_progress(len(losses), float(np.mean(losses[-REPORT_EVERY:])))
    return losses


def _average(parameters: list[nn.Parameter], progress: float) -> float:
    """Average gradients and training progress over the processes."""
    if not distributed.is_initialized():
        return progress
    flat = torch.cat([*(_gradient(p).flatten() for p in parameters), torch.tensor([progress])])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for parameter, gradient in zip(parameters, flat.split([*(p.numel() for p in parameters), 1]), strict=False):
        parameter.grad = gradient.view_as(parameter)
    return float(flat[-1])


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _loss(backbone: WhisperBackbone, ctc_head: nn.Linear, batch: Batch, ctc_weight: float) -> Tensor:
    frames = backbone.encode(batch.spectrograms)
    log_probs_BTV = ctc_head(frames.values_BTD).log_softmax(dim=-1)
    targets = backbone.targets(batch.texts, ["en"] * len(batch.texts))
    token_loss = backbone.token_loss(frames, targets)
    attention = token_loss.sum_B.sum() / token_loss.num_tokens_B.sum()
    return attention + ctc_weight * ctc_loss(log_probs_BTV, frames.num_frames_B, batch.texts)


@torch.no_grad()
def word_error_rate(backbone: WhisperBackbone, speech: Speech) -> float:
    """WER of greedy decoding, as a fraction."""
    backbone.eval()
    spectrograms = [speech.spectrogram(index) for index in range(len(speech.texts))]
    heard: list[str] = []
    for start in range(0, len(spectrograms), 32):
        batch = collate(spectrograms[start : start + 32], speech.texts[start : start + 32])
        heard += backbone.decode(backbone.encode(batch.spectrograms), ["en"] * len(batch.texts)).texts
    return float(jiwer.wer(speech.texts, heard))


def new_backbone(seed: int) -> WhisperBackbone:
    """The untrained backbone, with a tokenizer of the training vocabulary."""
    torch.manual_seed(seed)
    rng = random.Random(f"{seed} tokenizer")
    tokenizer = blueprint.make_tokenizer(
        (random_sentence(rng) if rng.random() < 0.7 else random_words(rng)) for _ in range(20_000)
    )
    return WhisperBackbone(blueprint.make_model(tokenizer), tokenizer)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m recipes.nano.train", description=__doc__)
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--minutes", type=float, default=50, help="training ends after so long (default 50)")
    parser.add_argument("--steps", type=int, default=20_000, help="or after so many steps (default 20000)")
    parser.add_argument("--num-utterances", type=int, default=16_000, help="training utterances to synthesise")
    parser.add_argument("--num-judged", type=int, default=100, help="utterances that judge it as it learns")
    parser.add_argument("--batch-size", type=int, default=8, help="utterances a step and process (default 8)")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--processes", type=int, default=2, help="one thread each (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name, value in vars(arguments).items():
        if name not in ("output_dir", "seed") and value <= 0:
            raise InputError("setting.range", f"--{name.replace('_', '-')} must be above 0, got {value}", value)
    return arguments


def run_process(rank: int, arguments: argparse.Namespace, cache_file: Path, rendezvous: str) -> None:
    """One training process; the first one evaluates and saves."""
    torch.set_num_threads(1)  # two processes of one thread lose less to other work than one of two threads
    if arguments.processes > 1:
        distributed.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=arguments.processes)
    speech = speak(training_utterances(arguments.num_utterances, arguments.seed), cache_file)
    judged = speak(plain_utterances(arguments.num_judged, arguments.seed)) if rank == 0 else None
    backbone = new_backbone(arguments.seed)
    started = time.monotonic()

    def judge(step: int, loss: float) -> None:
        if judged is None:
            return
        minutes, rate = (time.monotonic() - started) / 60, word_error_rate(backbone, judged)
        print(f"step {step}  {minutes:.1f} min  loss {loss:.3f}  WER on unseen voices {rate:.1%}", flush=True)
        blueprint.save(backbone.model, backbone.tokens.tokenizer, arguments.output_dir)

    plan = Plan(arguments.steps, arguments.minutes, arguments.batch_size, arguments.learning_rate)
    losses = train(backbone, speech, plan, seed=arguments.seed + rank, on_progress=judge)
    judge(len(losses), losses[-1])


@exits_cleanly
def main() -> None:
    """Synthesise the speech (once, into the cache), train, save."""
    arguments = parse_arguments()
    cache_file = default_cache_dir() / f"nano-seed{arguments.seed}-{arguments.num_utterances}.npz"
    speak(training_utterances(arguments.num_utterances, arguments.seed), cache_file, arguments.processes)
    with tempfile.TemporaryDirectory() as folder:
        inputs = (arguments, cache_file, f"{folder}/rendezvous")
        torch.multiprocessing.spawn(run_process, inputs, nprocs=arguments.processes)
    print(f"saved in {arguments.output_dir}")


if __name__ == "__main__":
    main()
