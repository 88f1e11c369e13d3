"""Write the plot, the report and the projector files of a clustering."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moe_lightning.clustering.clusterer import Prediction
from moe_lightning.clustering.fit import FittedClustering
from moe_lightning.clustering.nuisance import with_unit
from moe_lightning.clustering.plot import Layout, lay_out, plot_clusters, plot_column
from moe_lightning.clustering.report import Column, known_columns, make_report
from moe_lightning.clustering.report_page import page
from moe_lightning.clustering.scatter_data import scatter_data, write_projector
from moe_lightning.data.embedding_store import StoreEntry
from moe_lightning.data.utterance import Utterance, is_bookkeeping
from moe_lightning.run.folder import RunDir
from moe_lightning.settings.clustering import ClusteringSettings
from moe_lightning.system.atomic_file import write_bytes, write_text
from moe_lightning.system.json_files import write_json
from moe_lightning.system.terminal import say

PROJECTOR_DIR = "projector"
MOST_LEGEND_ENTRIES = 32
"""A picture with more values than colours and markers is unreadable."""


def write_pictures(
    fitted: FittedClustering,
    prediction: Prediction,
    splits_N: np.ndarray,
    training: Sequence[StoreEntry],
    utterances: Sequence[Utterance] | None,
    settings: ClusteringSettings,
) -> list[Path]:
    """Write plot, report and projector files; plot and report can be switched off separately.

    Args:
        training: Store entries of the training utterances, in the order of the fit.
        utterances: Their manifest entries; None without a manifest.
    """
    if settings.plot == "none" and not settings.report:
        return []
    folder = settings.output_dir
    names = RunDir(folder.parent)
    say(f"laying out {len(training)} utterances")
    speakers = [entry.contributor_id for entry in training]
    method = "pca" if settings.plot == "none" else settings.plot
    layout = lay_out(fitted.points_NR, method, settings.seed, speakers if settings.pool_speakers else None)
    title = f"{len(fitted.points_NR)} training utterances, {fitted.partition.algorithm}"
    files = []
    if settings.plot != "none":
        plot_file = names.cluster_plot_file(settings.algorithm, settings.plot)
        files.append(folder / plot_file.name)
        write_bytes(files[-1], plot_clusters(layout, fitted.partition.labels_N, title))
    if settings.report:
        say("measuring the audio, and clustering samples to see how stable the clusters are")
        known = known_columns(utterances, settings.seed) if utterances else {}
        report = make_report(fitted, prediction, splits_N, known, speakers, settings)
        print(("warning: " if report.verdict.is_warning else "") + report.verdict.sentence)
        columns = own_columns(fitted) | known
        say("drawing the pictures")
        training_ids = [entry.id for entry in training]
        scatter = scatter_data(layout, training_ids, utterances, columns, folder)
        page_file, data_file = (
            folder / file.name for file in (names.cluster_report_file, names.cluster_report_data_file)
        )
        write_text(page_file, page(report, scatter, _pictures(layout, columns)))
        write_json(data_file, report.as_json())
        _write_projector(folder / PROJECTOR_DIR, fitted, training_ids, columns)
        files += [page_file, data_file]
    return files


def own_columns(fitted: FittedClustering) -> dict[str, Column]:
    """Cluster and confidence per training point, for the report's colours."""
    labels_N = fitted.partition.labels_N
    probs_NE = fitted.clusterer.soft_labels_of_points(fitted.points_NR)
    return {
        "cluster": ["noise" if label < 0 else str(label) for label in labels_N],
        "confidence": probs_NE.max(axis=1).astype(float).round(4).tolist(),
    }


def _pictures(layout: Layout, columns: dict[str, Column]) -> list[tuple[str, bytes]]:
    pictures = []
    for name, values in columns.items():
        num_texts = len({value for value in values if isinstance(value, str)})
        num_known = sum(values[row] is not None for row in layout.rows)
        is_of_interest = name != "cluster" and not is_bookkeeping(name, values)
        if num_texts <= MOST_LEGEND_ENTRIES and num_known and is_of_interest:
            pictures.append((with_unit(name), plot_column(layout, values, with_unit(name))))
    return pictures


def _write_projector(
    folder: Path, fitted: FittedClustering, training_ids: Sequence[str], columns: dict[str, Column]
) -> None:
    texts = {name: ["" if value is None else str(value) for value in values] for name, values in columns.items()}
    write_projector(folder, fitted.points_NR, {"id": training_ids, **texts})
