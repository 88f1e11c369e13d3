"""Cost of `--mode full` on a GPU: operations, hours and memory by stage, computed from the model's shape.

    python benchmarks/cost.py --shape large-v2 --hours 100 --seconds 6 --window 30 --tflops 312 --share 0.4

Nothing is measured here. Operations are two a weight and position; training runs a layer forwards, and backwards for
its input's gradient alone, since LoRA leaves the weights frozen: twice the forward pass. ``--share`` is the part of the
GPU's peak that is reached. Activations take 34 bytes a position and width in a layer in half precision: equation 2 of
Korthikanti et al. 2022, arXiv:2205.05198, without the attention's quadratic term, which fused attention does not keep.
"""

import argparse
import math
from typing import NamedTuple


class Shape(NamedTuple):
    """A Whisper's size."""

    width: int
    layers: int
    """Of the encoder, and as many of the decoder."""
    vocabulary: int = 51_865

    @property
    def encoder_weights(self) -> int:
        return self.layers * 12 * self.width**2

    @property
    def decoder_weights(self) -> int:
        """Without the keys and values of the cross-attention, which are computed once an utterance."""
        return self.layers * 14 * self.width**2 + self.vocabulary * self.width

    @property
    def cross_weights(self) -> int:
        return self.layers * 2 * self.width**2


SHAPES = {"base": Shape(512, 6), "small": Shape(768, 12), "medium": Shape(1024, 24), "large-v2": Shape(1280, 32)}
FRAMES_PER_SECOND = 50
TOKENS_PER_SECOND = 4.0
"""Of speech, with punctuation; English has about 2.5 words a second."""


class Work(NamedTuple):
    """Operations of an utterance, forwards."""

    encoder: float
    whole: float
    """Encoder, and decoder with teacher forcing."""


def work(shape: Shape, seconds: float, window: float) -> Work:
    """Operations for an utterance of so many seconds that is read over a window."""
    frames = FRAMES_PER_SECOND * max(seconds, window)
    tokens = TOKENS_PER_SECOND * seconds
    attention = 4 * shape.layers * frames**2 * shape.width
    encoder = 2 * frames * shape.encoder_weights + attention
    return Work(encoder, encoder + 2 * frames * shape.cross_weights + 2 * tokens * shape.decoder_weights)


def training_gigabytes(shape: Shape, window: float, batch_size: int, checkpointing: bool) -> float:
    """Frozen weights in float32, and the activations of a batch in half precision."""
    weights = 4 * (shape.encoder_weights + shape.decoder_weights + shape.cross_weights)
    positions = batch_size * FRAMES_PER_SECOND * window * shape.width
    kept = positions * (2 * shape.layers + 34) if checkpointing else positions * 34 * shape.layers
    return float(weights + kept) / 1e9


def main() -> None:
    options = parser().parse_args()
    shape, utterances = SHAPES[options.shape], options.hours * 3600 / options.seconds
    one = work(shape, options.seconds, options.window)
    stages = {
        "embedding": one.encoder,
        f"experts, {options.expert_epochs} epochs": 2 * one.whole * options.expert_epochs,
        f"joint training, {options.joint_epochs} epochs": 2 * one.whole * options.joint_epochs,
    }
    rate = options.tflops * 1e12 * options.share
    corpus = f"{options.hours:g} h of speech in utterances of {options.seconds:g} s"
    print(f"{options.shape}, {corpus}, window {options.window:g} s")
    print("| stage | operations, 10^18 | GPU hours |\n|---|---|---|")
    for name, each in stages.items():
        print(f"| {name} | {each * utterances / 1e18:.2f} | {each * utterances / rate / 3600:.1f} |")
    print("\n| utterances of a batch | training memory, GB | with gradient checkpointing, GB |\n|---|---|---|")
    for size in (1, 4, 16):
        plain, checkpointed = (training_gigabytes(shape, options.window, size, flag) for flag in (False, True))
        print(f"| {size} | {math.ceil(plain)} | {math.ceil(checkpointed)} |")


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="large-v2")
    parser.add_argument("--hours", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=6.0, help="of an utterance")
    parser.add_argument("--window", type=float, default=30.0)
    parser.add_argument("--expert-epochs", type=int, default=5)
    parser.add_argument("--joint-epochs", type=int, default=10)
    parser.add_argument("--tflops", type=float, default=312.0, help="peak in half precision; an A100 has 312")
    parser.add_argument("--share", type=float, default=0.4, help="part of the peak that is reached")
    return parser


if __name__ == "__main__":
    main()
