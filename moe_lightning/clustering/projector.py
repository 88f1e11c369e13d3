"""The clustered points for TensorBoard's projector."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

MOST_POINTS = 5_000


def write_projector(folder: Path, points_NR: np.ndarray, columns: dict[str, Sequence[str]]) -> None:
    """Write at most 5,000 points with their columns; ``tensorboard --logdir`` on any parent folder finds them.

    Args:
        columns: Name -> a text per point.
    """
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob("events.out.tfevents*")):
        EventFileWriter(str(folder)).close()  # TensorBoard reads only folders with an event file
    rows = np.sort(np.random.default_rng(0).permutation(len(points_NR))[:MOST_POINTS])
    np.savetxt(folder / "tensors.tsv", points_NR[rows], fmt="%.5g", delimiter="\t")
    lines = ["\t".join(columns)]
    lines += ["\t".join(_one_cell(values[row]) for values in columns.values()) for row in rows]
    (folder / "metadata.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "projector_config.pbtxt").write_text(
        'embeddings {\n  tensor_name: "utterances"\n  tensor_path: "tensors.tsv"\n  metadata_path: "metadata.tsv"\n}\n'
    )


def _one_cell(text: str) -> str:
    return " ".join(str(text).split())
