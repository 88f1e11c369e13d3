"""Cost of the digests of a run: seconds of one core for a GiB.

    python benchmarks/digests.py [--mib 512] [--json FILE]

A shard of embeddings is written with its digest taken on the way, and the same bytes are written without one;
a file of the same size is hashed by itself, as checkpoints and weights are when their stage ends. Time of the process
itself, so that neither a busy machine nor the system's writing counts; the median of five.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from moe_lightning.data.recordings import fingerprint
from moe_lightning.data.shards import ShardIndex, shard_name, write_shard
from moe_lightning.run.outputs import digest

ROUNDS = 5
SIZE = 1280
"""Of an embedding of Whisper large-v2."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=512, help="of the shard; default 512, where a shard is full")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.mib)
    print("\n".join(f"{name:<52} {value:8.3f}" for name, value in figures.items()))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(folder: Path, mib: int) -> dict[str, float]:
    """Seconds of one core for a GiB, by what is done; and of 1,000 recordings."""
    num_rows = mib * 2**20 // (4 * SIZE)
    embeddings_ND = np.random.default_rng(0).normal(size=(num_rows, SIZE)).astype(np.float32)
    index = ShardIndex(0, [str(row) for row in range(num_rows)], "32-true")
    with_digest = seconds(lambda: write_shard(folder, index, embeddings_ND))
    without = seconds(lambda: (folder / "plain").write_bytes(embeddings_ND.data.cast("B")))
    alone = seconds(lambda: digest(folder / shard_name(0)))
    gib = embeddings_ND.nbytes / 2**30
    return {
        "a shard written with its digest, s a GiB": with_digest / gib,
        "the same bytes written without, s a GiB": without / gib,
        "a file hashed by itself, s a GiB": alone / gib,
        "both ends of 1,000 recordings, s": seconds(lambda: [fingerprint(folder / "plain") for _ in range(1000)]),
    }


def seconds(work: Callable[[], object]) -> float:
    """Time of the process itself, the median of some rounds."""
    times = []
    for _ in range(ROUNDS):
        started = os.times().user
        work()
        times.append(os.times().user - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
