"""Decoding with and without the guard: word errors, loops and seconds, over real lengths and short windows.

    python benchmarks/guard.py WHISPER_FOLDER --test sentences_en_test.jsonl --windows real 10

One thread, float32, greedy, Whisper's English normaliser; seconds of processor time.
"""

import argparse
import time
from pathlib import Path

import torch
from recordings import Row, read_rows, waveforms, word_error_rate

from moe_lightning.models.backbones.base import SpeechBackbone
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.backbones.loading import load_backbone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whisper", help="folder or hub id of a Whisper model")
    parser.add_argument("--test", type=Path, required=True, help="manifest, one JSON object a line")
    parser.add_argument("--every", type=int, default=4, help="take every so many of the recordings; default 4")
    parser.add_argument("--windows", nargs="+", default=["real", "10"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = read_rows(options.test)[:: options.every]
    print("| window | WER without the guard | with it | loops | decoding without, with |\n|---|---|---|---|---|")
    for window in options.windows:
        backbone = load_backbone(options.whisper, window).eval()
        (plain, _, slow), (guarded, loops, fast) = (measure(backbone, rows, guard) for guard in (False, True))
        print(f"| {window} | {plain:.1f} % | {guarded:.1f} % | {loops} | {slow:.0f} s, {fast:.0f} s |", flush=True)


@torch.no_grad()
def measure(backbone: SpeechBackbone, rows: list[Row], guard: bool) -> tuple[float, int, float]:
    """Word error rate in percent, utterances cut off, and seconds."""
    started, texts, loops = time.process_time(), [], 0
    for start in range(0, len(rows), 16):
        batch = rows[start : start + 16]
        frames = backbone.encode(backbone.features(*waveforms(batch)))
        found = backbone.decode(frames, [row["language"] for row in batch], options=DecodeOptions(guard=guard))
        texts += found.texts
        loops += sum(note.has_looped for note in found.notes)
    seconds = time.process_time() - started
    return word_error_rate(rows, texts), loops, seconds


if __name__ == "__main__":
    main()
