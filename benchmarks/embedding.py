"""Speed of embedding a corpus: the usual ways beside ours.

    python benchmarks/embedding.py [--whisper-model FOLDER] [--windows 30 15 real] [--quick] [--json FILE]

From audio files to one mean vector an utterance, in one process, in turns, with the same weights: of a model
that is given, else random ones of Whisper-base's shape (of large-v2's in bfloat16 where there is a CUDA GPU):

(a) single:  transformers, one file at a time, padded to 30 s by WhisperFeatureExtractor;
(b) batched: the same in batches of 16;
(c) ours:    the stage's own batches, module and writer, once for each window.

A speed is seconds of audio a second, the median over rounds; every way gets the same mix of lengths.
``ratio_vs_single`` is c / a, ``ratio_vs_batched`` is c / b.

The arithmetic limit is what the faster of (a) and (b) would reach if each of its frames cost what it
costs now, and only the frames of the window were computed: its speed times 1500 / (mean frames that an
utterance has over that window). ``share_of_limit`` is c over that limit. It leaves out that attention over
fewer frames is cheaper still, so 1.0 is no bound of nature; reading files and the spectrogram count against us.
"""

import argparse
import ctypes
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from random_whisper import SHAPES, random_whisper
from transformers import WhisperFeatureExtractor, WhisperTokenizer

from moe_lightning.corpus.probe import probe_entries
from moe_lightning.corpus.readers import read_corpus
from moe_lightning.data.audio import read_audio
from moe_lightning.data.utterance import Utterance
from moe_lightning.embedding.data import default_seconds, embedding_loader
from moe_lightning.embedding.module import EmbeddingModule
from moe_lightning.embedding.writer import ShardSettings, StoreWriter
from moe_lightning.models.backbones.names import NANO_DIR
from moe_lightning.models.backbones.window import LONGEST, REAL, parse_window, window_words

SAMPLE_RATE = 16_000
WINDOW_FRAMES = 1500
"""Encoder frames of 30 s."""
BATCH = 16
"""Of transformers in batches."""


class Plan(NamedTuple):
    """Numbers of rounds and utterances."""

    num_rounds: int
    num_single: int
    """Utterances that are embedded one at a time, in each round; and so on."""
    num_batched: int
    num_ours: int


class Slice(NamedTuple):
    """One way, once."""

    audio_seconds: float
    seconds: float
    peak_bytes: int
    """Memory above what the process held before; of the GPU where there is one."""

    @property
    def speed(self) -> float:
        """Seconds of audio a second."""
        return self.audio_seconds / self.seconds


def main() -> None:
    """Measure, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer utterances, under 50 s on two cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--dataset-root", type=Path, default=Path("../shared/corpus"), metavar="DIR")
    parser.add_argument("--whisper-model", help="folder or hub id of a Whisper model; its weights, not random ones")
    parser.add_argument("--shape", choices=tuple(SHAPES), help="of random weights: default base; large-v2 with a GPU")
    parser.add_argument("--windows", nargs="+", default=["30", "15", "real"], help="of ours; default 30 15 real")
    parser.add_argument("--threads", type=int, default=2, help="of torch; default 2")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = args.shape or ("large-v2" if device.type == "cuda" else "base")
    num_read = 10_000 if device.type == "cuda" else 1000
    plan = Plan(2, 2, 16, 192) if args.quick else Plan(5, 8, 32, 384)
    if device.type == "cuda":
        plan = Plan(3, 32, 128, 2048) if args.quick else Plan(5, 64, 256, 4096)
    with tempfile.TemporaryDirectory() as folder:
        model = args.whisper_model or str(random_folder(Path(folder) / "model", shape))
        windows = [parse_window(window) or REAL for window in args.windows]
        bench = Bench(model, read_utterances(args.dataset_root, num_read), device, folder, windows)
        figures = bench.run(plan)
    weights = f"weights of {Path(args.whisper_model).name}" if args.whisper_model else f"random weights, {shape}"
    figures |= {"model": weights, "device": device_name(device), "threads": args.threads}
    print_table(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


class Bench:
    """All ways, over the same weights and the same corpus.

    Args:
        whisper_model: Folder or hub id of a Whisper model.
        utterances: Of the corpus; each way gets as many as asked for, evenly spread over their lengths.
        device: bfloat16 on a GPU, float32 on the CPU.
        folder: For the shards that ours writes.
        windows: Of ours, in seconds; `REAL` for real lengths.
    """

    def __init__(
        self,
        whisper_model: str,
        utterances: Sequence[Utterance],
        device: torch.device,
        folder: str | Path,
        windows: Sequence[float] = (LONGEST, REAL),
    ):
        self.module = EmbeddingModule(whisper_model).to(device).eval()
        self.windows = windows
        self.extractor = WhisperFeatureExtractor(feature_size=self.module.backbone.model.config.num_mel_bins)
        self.utterances = sorted(utterances, key=lambda utterance: utterance.duration)
        self.device = device
        self.folder = Path(folder)
        self.max_seconds, self.batch_size = default_seconds(device.type), 256
        self.num_workers = 8 if device.type == "cuda" else 0

    @torch.inference_mode()
    def run(self, plan: Plan) -> dict[str, Any]:
        """All rounds; the figures of the table and of the JSON file."""
        ways: dict[str, tuple[Callable[[Sequence[Utterance]], Any], int]] = {
            "single": (self.transformers(1), plan.num_single),
            "batched": (self.transformers(BATCH), plan.num_batched),
        }
        for window in self.windows:
            count = plan.num_batched if window == LONGEST else plan.num_ours
            ways[window_words(window)] = (partial(self.ours, window=window), count)
        for way, _ in ways.values():
            way(self.spread(2))  # first calls are not what is measured
        slices: dict[str, list[Slice]] = {name: [] for name in ways}
        for _ in range(plan.num_rounds):
            for name, (way, count) in ways.items():
                slices[name].append(self.measure(way, self.spread(count)))
        return self.figures(slices)

    def spread(self, count: int) -> list[Utterance]:
        """So many utterances, evenly spread over the lengths of the corpus."""
        places = (np.arange(count) + 0.5) * len(self.utterances) / count
        return [self.utterances[int(place)] for place in places]

    def transformers(self, batch_size: int) -> Callable[[Sequence[Utterance]], np.ndarray]:
        """The usual way, in batches of so many."""
        encoder = self.module.backbone.model.model.encoder

        def embed(utterances: Sequence[Utterance]) -> np.ndarray:
            found = []
            for start in range(0, len(utterances), batch_size):
                waveforms = [read_audio(utterance) for utterance in utterances[start : start + batch_size]]
                features = self.extractor(waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
                with self.autocast():
                    found.append(encoder(features.to(self.device)).last_hidden_state.mean(dim=1).float().cpu())
            return torch.cat(found).numpy()

        return embed

    def ours(self, utterances: Sequence[Utterance], window: float) -> None:
        """Embed as `moe-lightning embed` does behind the Trainer: loader, module, writer."""
        writer = StoreWriter(self.folder, ShardSettings())
        self.module.backbone.window = window
        for batch in embedding_loader(utterances, self.batch_size, self.max_seconds, self.num_workers, window=window):
            waveforms = batch.waveforms._replace(**{k: v.to(self.device) for k, v in batch.waveforms._asdict().items()})
            with self.autocast():
                writer.add(batch.ids, self.module.predict_step(batch._replace(waveforms=waveforms), 0))
        writer.flush()

    def autocast(self) -> torch.autocast:
        """bfloat16 on a GPU, as ``--precision bf16-mixed``."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def measure(self, way: Callable[[Sequence[Utterance]], Any], utterances: Sequence[Utterance]) -> Slice:
        """Run one way over these utterances."""
        with peak_memory(self.device) as peak:
            started = time.perf_counter()
            way(utterances)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        return Slice(sum(utterance.duration for utterance in utterances), seconds, peak[0])

    def figures(self, slices: dict[str, list[Slice]]) -> dict[str, Any]:
        """Medians and ratios."""
        speeds = {name: statistics.median(one.speed for one in of_way) for name, of_way in slices.items()}
        usual = max(speeds["single"], speeds["batched"])
        return {
            "mean_seconds": statistics.mean(one.duration for one in self.utterances),
            "audio_seconds_per_second": speeds,
            "peak_bytes": {name: max(one.peak_bytes for one in of_way) for name, of_way in slices.items()},
            "ours": {window_words(window): self.of_window(window, speeds, usual) for window in self.windows},
        }

    def of_window(self, window: float, speeds: dict[str, float], usual: float) -> dict[str, float]:
        """Ratios of ours over a window, by the speed of the faster of the usual ways."""
        speed = speeds[window_words(window)]
        durations_N = [utterance.duration for utterance in self.utterances]
        frames = statistics.mean(np.ceil(np.maximum(durations_N, window) * 50))
        limit = usual * WINDOW_FRAMES / frames
        return {
            "ratio_vs_single": speed / speeds["single"],
            "ratio_vs_batched": speed / speeds["batched"],
            "arithmetic_limit": limit,
            "share_of_limit": speed / limit,
        }


def random_folder(folder: Path, shape: str) -> Path:
    """A folder with a Whisper model of random weights and one decoder layer, which nothing here runs."""
    tokenizer = WhisperTokenizer.from_pretrained(NANO_DIR)
    random_whisper(shape, tokenizer, vocab_size=len(tokenizer), decoder_layers=1).save_pretrained(folder)
    for file in NANO_DIR.glob("*token*"):
        shutil.copy(file, folder)
    return folder


def read_utterances(dataset_root: Path, count: int) -> list[Utterance]:
    """A random sample of a corpus's training utterances."""
    entries = [entry for entry in read_corpus(dataset_root) if entry.split == "train"]
    places = np.random.default_rng(0).permutation(len(entries))[:count]
    return list(probe_entries([entries[place] for place in sorted(places)]).splits["train"])


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[int]]:
    """Highest memory within, above what there was before, in a list of one."""
    peak = [0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        peak[0] = torch.cuda.max_memory_allocated() - before
        return
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what the way before has given back is not this one's to use again
    is_over, before = threading.Event(), resident_bytes()

    def watch() -> None:
        while not is_over.wait(0.005):
            peak[0] = max(peak[0], resident_bytes() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return models[0].partition(": ")[2] if models else "CPU"


def print_table(figures: dict[str, Any]) -> None:
    """The figures as Markdown."""
    print(f"{figures['model']}, {figures['device']}, {figures['threads']} threads")
    print(f"utterances of {figures['mean_seconds']:.2f} s on average\n")
    names = ("", "audio seconds a second", "times (a)", "times (b)", "of the arithmetic limit", "peak memory")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    usual = (("single", "(a) transformers, one file at a time, 30 s"), ("batched", f"(b) in batches of {BATCH}, 30 s"))
    for name, words in (*usual, *((window, f"(c) ours, {window}") for window in figures["ours"])):
        speeds, found = figures["audio_seconds_per_second"], figures["ours"].get(name)
        share = f"{100 * found['share_of_limit']:.0f} %" if found else "-"
        ratios = (f"{speeds[name] / speeds[other]:.1f}" for other in ("single", "batched"))
        peak = f"{figures['peak_bytes'][name] / 1e6:.0f} MB"
        print(f"| {words} | {speeds[name]:.1f} | {' | '.join(ratios)} | {share} | {peak} |")


if __name__ == "__main__":
    main()
