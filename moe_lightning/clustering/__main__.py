"""``python -m moe_lightning.clustering``, the same as ``moe-lightning cluster``."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moe_lightning.clustering.cli import parse
from moe_lightning.clustering.clusterer import ARRAYS_FILE, CONFIG_FILE, Clusterer, Prediction
from moe_lightning.clustering.features import pool
from moe_lightning.clustering.fit import FittedClustering, fit_clusterer
from moe_lightning.clustering.settings import ClusteringSettings
from moe_lightning.embedding_store import EmbeddingStore
from moe_lightning.errors import InputError, exits_cleanly
from moe_lightning.run_dir import RunDir
from moe_lightning.soft_labels import HardLabels, SoftLabels
from moe_lightning.stage_record import command_settings, recorded_stage


def run(settings: ClusteringSettings) -> Clusterer:
    """Fit on the train split, label every utterance of the store, write the files of the stage."""
    store = EmbeddingStore.load(settings.embedding_dir)
    embeddings_ND = pool(store.embeddings_ND, settings.pooling)
    fitted = fit_clusterer(embeddings_ND[_training_rows(store)], settings)
    for note in fitted.notes:
        print(f"note: {note}")
    prediction = fitted.clusterer.predict(embeddings_ND)
    files = _write(store.ids, fitted, prediction, settings)
    _print_summary(fitted.clusterer, prediction, store.splits_N, files)
    return fitted.clusterer


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run the stage."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    settings, warnings = parse(arguments)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    named = RunDir(settings.output_dir.parent)
    is_stage_of_run = settings.output_dir == named.stage_dir("clustering") and named.record_file("embedding").exists()
    if not is_stage_of_run:
        run(settings)
        return
    with recorded_stage(named, "clustering", command_settings(arguments)) as has_work:
        if has_work:
            run(settings)


def _training_rows(store: EmbeddingStore) -> np.ndarray:
    """Rows of the train split in the order of their ids, so that the order in the store does not matter."""
    rows = np.flatnonzero(store.splits_N == "train")
    if not len(rows):
        raise InputError("no entry of mapping.json is of the split train; clusters are fitted on train alone")
    return rows[np.argsort(np.array(store.ids)[rows])]


def _write(
    ids: tuple[str, ...], fitted: FittedClustering, prediction: Prediction, settings: ClusteringSettings
) -> list[Path]:
    folder = settings.output_dir
    named = RunDir(folder.parent)  # names only: the folder may be called otherwise than a run's
    labels_file = folder / named.labels_file(settings.algorithm).name
    soft_labels_file = folder / named.soft_labels_file(settings.algorithm).name
    HardLabels(ids, prediction.labels_N).save(labels_file)
    SoftLabels(ids, prediction.probs_NE).save(soft_labels_file)
    fitted.clusterer.save(folder)
    files = [labels_file, soft_labels_file, folder / CONFIG_FILE, folder / ARRAYS_FILE]
    if settings.plot != "none":
        files.append(folder / named.cluster_plot_file(settings.algorithm, settings.plot).name)
        _plot(fitted, settings, files[-1])
    return files


def _plot(fitted: FittedClustering, settings: ClusteringSettings, path: Path) -> None:
    from moe_lightning.clustering.plot import plot_clusters  # imports matplotlib and, for umap, umap

    title = f"{len(fitted.points_NR)} training utterances, {fitted.partition.algorithm}"
    plot_clusters(fitted.points_NR, fitted.partition.labels_N, settings.plot, title, settings.seed, path)


def _print_summary(clusterer: Clusterer, prediction: Prediction, splits_N: np.ndarray, files: list[Path]) -> None:
    from moe_lightning.clustering.summary import print_summary

    print_summary(clusterer, prediction, splits_N, files)


if __name__ == "__main__":
    main()
