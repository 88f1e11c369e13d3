"""Table and plot of what `mixture.py` measured."""

import statistics
from pathlib import Path
from typing import Any

import torch

TOP_K = 2
GENERATE, BACKBONE = "transformers generate", "backbone (loss, no gradient)"
ONE_LORA, IN_TURNS = "one LoRA (peft)", "adapters in turns"
HEADS = (
    *("system", "E", "training step, s", "of one LoRA's throughput", "of the arithmetic limit"),
    *("decoding, s", "of the backbone's throughput", "of the arithmetic limit", "adapters, MB"),
)


def mixture_name(num_kept: int, num_experts: int) -> str:
    return f"mixture, {TOP_K} an utterance" if num_kept == TOP_K else "mixture, all merged"


def ratio(rows: list[dict[str, Any]], ours: dict[str, Any], other: str, kind: str) -> float:
    """Throughput over that of another system: median over the rounds."""
    theirs = next(row for row in rows if row["name"] == other)
    return statistics.median(slow / fast for slow, fast in zip(theirs[kind], ours[kind], strict=True))


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The ratios of throughput of a mixture of 8, two experts an utterance."""
    ours = next(row for row in rows if row["num_experts"] == 8 and row["name"] == mixture_name(TOP_K, 8))
    return {
        "train_vs_one_lora_e8": ratio(rows, ours, ONE_LORA, "train"),
        "train_vs_sequential_e8": ratio(rows, ours, IN_TURNS, "train"),
        "decode_vs_backbone_e8": ratio(rows, ours, BACKBONE, "decode"),
        "decode_vs_transformers_e8": ratio(rows, ours, GENERATE, "decode"),
    }


def print_table(rows: list[dict[str, Any]], shape: dict[str, Any], speed: float) -> None:
    """Markdown; ``speed`` is that of matrix products, operations a second."""
    batch = f"a batch of {shape['batch']} x {shape['seconds']:g} s, {shape['tokens']} tokens decoded"
    model = f"weights of {Path(shape['model']).name}" if shape["model"] else f"random weights, {shape['shape']}"
    print(f"{model}, window {shape['window']}, {batch}, {torch.get_num_threads()} thread(s)")
    print(f"matrix products: {speed / 1e9:.0f} * 10^9 operations a second")
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for row in rows:
        cells = [row["name"], str(row["num_experts"])]
        for kind, other in (("train", ONE_LORA), ("decode", BACKBONE)):
            cells += timings(rows, row, kind, other, speed) if row[kind] else ["-"] * 3
        cells.append(f"{row['adapter_mb']:.1f}")
        print(f"| {' | '.join(cells)} |")
    for row in rows:
        if row["train"] and torch.cuda.is_available():  # on a CPU systems reuse each other's memory
            print(f"{row['name']}, {row['num_experts']}: a step's peak {row['train_peak_mb']:.0f} MB")
    for name, value in figures(rows).items():
        print(f"{name}: {value:.3f}")


def timings(rows: list[dict[str, Any]], row: dict[str, Any], kind: str, other: str, speed: float) -> list[str]:
    """Seconds, the share of another system's throughput, and the share of the arithmetic limit."""
    seconds = statistics.median(row[kind])
    share = row[f"{kind}_operations"] / speed / seconds
    return [f"{seconds:.3f}", f"{ratio(rows, row, other, kind):.2f}", f"{share:.2f}"]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds against the number of experts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    ours = [row for row in rows if row["name"] == mixture_name(TOP_K, row["num_experts"])]
    numbers = [row["num_experts"] for row in ours]
    panels = zip(figure.subplots(1, 2), (("train", "training step"), ("decode", "decoding")), strict=True)
    for axes, (kind, title) in panels:
        axes.plot(numbers, [statistics.median(row[kind]) for row in ours], marker="o", label=ours[0]["name"])
        usual = [row for row in rows if row["name"] in (BACKBONE, ONE_LORA)]
        for row, style in zip(usual, ("--", ":"), strict=True):
            axes.axhline(statistics.median(row[kind]), linestyle=style, color="grey", label=row["name"])
        axes.set(xscale="log", xlabel="experts", ylabel="seconds", title=title)
        axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
        axes.minorticks_off()
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)
