"""Data of the scatter plot: for the page, and for TensorBoard's projector."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from moe_lightning.clustering.nuisance import with_unit
from moe_lightning.clustering.plot import COLOURS, Layout
from moe_lightning.clustering.report import Column
from moe_lightning.data.utterance import Utterance
from moe_lightning.system.atomic_file import write_text

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
    points = ("\t".join(f"{value:.5g}" for value in point) for point in points_NR[rows].tolist())
    write_text(folder / "tensors.tsv", "".join(f"{point}\n" for point in points))
    lines = ["\t".join(columns)]
    lines += ["\t".join(_one_cell(values[row]) for values in columns.values()) for row in rows]
    write_text(folder / "metadata.tsv", "\n".join(lines) + "\n")
    write_text(
        folder / "projector_config.pbtxt",
        'embeddings {\n  tensor_name: "utterances"\n  tensor_path: "tensors.tsv"\n  metadata_path: "metadata.tsv"\n}\n',
    )


def _one_cell(text: str) -> str:
    return " ".join(str(text).split())


_SHOWN_DECIMALS = 4


def scatter_data(
    layout: Layout,
    ids: Sequence[str],
    utterances: Sequence[Utterance] | None,
    columns: dict[str, Column],
    page_dir: Path,
) -> dict[str, Any]:
    """Data for the interactive scatter, for the points in the layout.

    Args:
        ids: Ids of all training utterances, in the order of utterances and columns.
        columns: Colour options; numbers get a scale, texts a colour each.
        page_dir: Folder of the page; audio addresses are relative to it.
    """
    low, high = layout.xy_N2.min(axis=0), layout.xy_N2.max(axis=0)
    xy_N2 = (layout.xy_N2 - low) / np.where(high > low, high - low, 1)
    shown = [utterances[row] for row in layout.rows] if utterances else []
    return {
        "x": xy_N2[:, 0].round(_SHOWN_DECIMALS).tolist(),
        "y": xy_N2[:, 1].round(_SHOWN_DECIMALS).tolist(),
        "ids": [ids[row] for row in layout.rows],
        "texts": [utterance.text for utterance in shown] or [""] * len(layout.rows),
        "audio": [_audio_address(utterance, page_dir) for utterance in shown] or [""] * len(layout.rows),
        "colours": list(COLOURS),
        "names": {name: with_unit(name) for name in columns},
        "columns": {name: _column([values[row] for row in layout.rows]) for name, values in columns.items()},
    }


def _audio_address(utterance: Utterance, page_dir: Path) -> str:
    path = quote(os.path.relpath(utterance.audio_file, page_dir.resolve()))
    is_whole = utterance.audio is not None and abs(utterance.audio.seconds - utterance.duration) < 0.01
    end = utterance.start + utterance.duration
    return path if is_whole else f"{path}#t={utterance.start:.3f},{end:.3f}"


def _column(values: Column) -> dict[str, Any]:
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if numbers and len(set(numbers)) > 8 and not any(isinstance(value, str) for value in values):
        return {"numbers": True, "values": values, "low": min(numbers), "high": max(numbers)}
    texts = [None if value is None else str(value) for value in values]
    present = {text for text in texts if text is not None}
    return {"numbers": False, "values": texts, "order": sorted(present, key=_numbers_first)}


def _numbers_first(text: str) -> tuple[bool, float, str]:
    return (not text.isdecimal(), float(text) if text.isdecimal() else 0.0, text)
