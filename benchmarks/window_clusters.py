"""Do embeddings over a shorter window find the same populations? Agreement of clusterings, and with manifest fields.

    python benchmarks/window_clusters.py --whisper-model WHISPER_FOLDER --dataset-root CORPUS --fields domain accent

Runs corpus, embedding and clustering of the product once for each window, each in a folder of its own, and compares the
clusters of the training utterances: adjusted mutual information with each field, adjusted Rand index with the clusters
over the first window.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.soft_labels import HardLabels
from moe_lightning.run.folder import RunDir


def main() -> None:
    options = parser().parse_args()
    runs = {window: RunDir(options.output_dir / f"window_{window}") for window in options.windows}
    seconds = {window: make(run, window, options) for window, run in runs.items()}
    utterances = read_manifest(runs[options.windows[0]].manifest_file("train"))
    labels = {window: clusters(run, [one.id for one in utterances]) for window, run in runs.items()}
    names = ("window", *(f"AMI with {field}" for field in options.fields), "agreement with the first", "embedding, s")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for window in options.windows:
        cells = [
            adjusted_mutual_info_score([str(one.fields.get(field)) for one in utterances], labels[window])
            for field in options.fields
        ]
        cells.append(adjusted_rand_score(labels[options.windows[0]], labels[window]))
        print(f"| {window} | {' | '.join(f'{cell:.2f}' for cell in cells)} | {seconds[window]:.0f} |")


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whisper-model", required=True)
    parser.add_argument("--dataset-root", required=True)
    parser.add_argument("--output-dir", type=Path, default=Path("lightning_logs/window_clusters"))
    parser.add_argument("--fields", nargs="+", default=["domain", "accent"])
    parser.add_argument("--windows", nargs="+", default=["30", "10", "real"])
    parser.add_argument("--max-utterances", nargs=3, default=["600", "20", "20"], metavar=("TRAIN", "DEV", "TEST"))
    parser.add_argument("--num-experts", default="4")
    parser.add_argument("--pooling", default="mean+std")
    return parser


def make(run: RunDir, window: str, options: argparse.Namespace) -> float:
    """Corpus, embedding and clustering of a run; the embedding's seconds."""
    size = ("--max-utterances", *options.max_utterances)
    command("corpus", "--run-dir", str(run.path), "--dataset-root", options.dataset_root, *size)
    started = time.perf_counter()
    model = ("--whisper-model", options.whisper_model, "--pooling", options.pooling)
    command("embedding", "--run-dir", str(run.path), "--window", window, "--num-workers", "0", *model)
    seconds = time.perf_counter() - started
    how = ("--algorithm", "kmeans", "--num-experts", options.num_experts, "--plot", "none", "--no-report")
    folders = ("--embedding-dir", str(run.embedding_dirs()[0]), "--output-dir", str(run.stage_dir("clustering")))
    command("clustering", *folders, *how)
    return seconds


def command(stage: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", f"moe_lightning.{stage}", *arguments], check=True, stdout=subprocess.DEVNULL)


def clusters(run: RunDir, ids: list[str]) -> list[int]:
    """Cluster of each utterance."""
    found = HardLabels.load(run.labels_file("kmeans"))
    by_id = dict(zip(found.ids, found.labels_N.tolist(), strict=True))
    return [by_id[id_] for id_ in ids]


if __name__ == "__main__":
    main()
