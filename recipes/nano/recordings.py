"""Train the nano backbone further on recordings: ``python -m recipes.nano.recordings --manifest FILE``.

For a corpus of real speech without access to a larger speech model: nano was trained on synthesised speech alone. The
result is a folder for ``--whisper-model``. Keep these recordings apart from those that train the mixture.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from moe_lightning.corpus.entry import Entry
from moe_lightning.corpus.readers.jsonl import read_jsonl
from moe_lightning.data.audio import read_file
from moe_lightning.data.augmentation import change_speed
from moe_lightning.data.normaliser import Normaliser
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.log_mel import log_mel
from moe_lightning.models.backbones.whisper import WhisperBackbone
from moe_lightning.system.exits import exits_cleanly
from recipes.nano import blueprint
from recipes.nano.speech import NUM_MEL_BINS, Speech
from recipes.nano.train import Plan, train, word_error_rate

SPEEDS = (0.9, 1.0, 1.1)
"""Speeds of every recording in an epoch (Ko et al. 2015, section 2)."""


def hear(manifests: Sequence[Path], speeds: Sequence[float]) -> Speech:
    """Spectrograms and texts of manifests, at each speed; recordings without a word are left out.

    Raises:
        InputError: A manifest or a recording cannot be read, or no recording has a word.
    """
    written = Normaliser("basic")
    entries = [entry for manifest in manifests for entry in read_jsonl(manifest, "train") if written(entry.text, None)]
    if not entries:
        raise InputError(
            "transcript.no-words",
            f"{manifests[0]} has no recording with a word in its transcript; there is nothing to learn",
            manifests[0],
        )
    parts = [
        _spectrogram(entry, speed) for entry in track(entries, "Reading recordings", transient=True) for speed in speeds
    ]
    texts = [written(entry.text, None) for entry in entries for _ in speeds]
    return Speech(np.concatenate(parts, axis=1), np.cumsum([part.shape[1] for part in parts]), texts)


def _spectrogram(entry: Entry, speed: float) -> np.ndarray:
    waveform_1L = torch.from_numpy(change_speed(read_file(entry.audio_file), speed).astype(np.float32))[None]
    values_1MT = log_mel(waveform_1L, torch.tensor([waveform_1L.shape[1]]), NUM_MEL_BINS).values_BMT
    return values_1MT[0].numpy().astype(np.float16)


def parse_arguments() -> argparse.Namespace:
    """The command line.

    Raises:
        InputError: A number is not positive.
    """
    parser = argparse.ArgumentParser(prog="python -m recipes.nano.recordings", description=__doc__)
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="JSONL manifests to train on")
    parser.add_argument("--dev-manifest", type=Path, required=True, help="one with other speakers, that judges it")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--minutes", type=float, default=60, help="training ends after so long (default 60)")
    parser.add_argument("--steps", type=int, default=20_000, help="or after so many steps (default 20000)")
    parser.add_argument("--batch-size", type=int, default=8, help="utterances a step (default 8)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="the highest (default 0.001)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in ("minutes", "steps", "batch_size", "learning_rate"):
        if getattr(arguments, name) <= 0:
            value = getattr(arguments, name)
            raise InputError("setting.range", f"--{name.replace('_', '-')} must be above 0, got {value}", value)
    return arguments


@torch.no_grad()
def _speak_one_language(backbone: WhisperBackbone) -> None:
    """Give every language's token the embedding of English: training used that one for all recordings."""
    ids = backbone.tokens.tokenizer.get_vocab()
    weight_VD = backbone.model.get_input_embeddings().weight
    for language in blueprint.LANGUAGES:
        weight_VD[ids[f"<|{language}|>"]] = weight_VD[ids["<|en|>"]]


@exits_cleanly
def main() -> None:
    """Read the recordings and train; every evaluation saves the model."""
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    speech, judged = hear(arguments.manifest, SPEEDS), hear([arguments.dev_manifest], [1.0])
    backbone = WhisperBackbone.load("nano")
    backbone.requires_grad_(True)
    started = time.monotonic()

    def judge(step: int, loss: float) -> None:
        _speak_one_language(backbone)
        minutes, rate = (time.monotonic() - started) / 60, word_error_rate(backbone, judged)
        print(f"step {step}  {minutes:.1f} min  loss {loss:.3f}  WER {rate:.1%}", flush=True)
        blueprint.save(backbone.model, backbone.tokens.tokenizer, arguments.output_dir)

    plan = Plan(arguments.steps, arguments.minutes, arguments.batch_size, arguments.learning_rate)
    losses = train(backbone, speech, plan, arguments.seed, judge)
    judge(len(losses), losses[-1])
    print(f"saved in {arguments.output_dir}")


if __name__ == "__main__":
    main()
