"""Summary that the command prints at the end."""

from pathlib import Path

import numpy as np

from moe_lightning.clustering.clusterer import Clusterer, Prediction
from moe_lightning.clustering.memberships import normalised_entropy


def print_summary(clusterer: Clusterer, prediction: Prediction, splits_N: np.ndarray, files: list[Path]) -> None:
    """Print cluster sizes per split, sharpness of the soft labels, and all written files."""
    from rich.console import Console
    from rich.table import Table

    splits = list(dict.fromkeys(splits_N.tolist()))
    table = Table("cluster", title="utterances per cluster", title_justify="left")
    for split in splits:
        table.add_column(str(split), justify="right")
    for cluster in [*range(clusterer.num_experts), -1]:
        counts = [int(((prediction.labels_N == cluster) & (splits_N == split)).sum()) for split in splits]
        if cluster >= 0 or any(counts):
            table.add_row("noise" if cluster == -1 else str(cluster), *map(str, counts))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    probs_NE = prediction.probs_NE
    console.print(
        f"soft labels: mean max probability {probs_NE.max(axis=1).mean():.2f},"
        f" normalised entropy {normalised_entropy(probs_NE):.2f}, temperature {clusterer.temperature:.3g}"
    )
    console.print("wrote " + ", ".join(str(file) for file in files))
