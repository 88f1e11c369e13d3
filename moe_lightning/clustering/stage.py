"""The clustering stage: an embedding store in; labels, plot and clusterer out."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from moe_lightning.clustering.clusterer import ARRAYS_FILE, CONFIG_FILE, Clusterer, Prediction
from moe_lightning.clustering.features import pool, select_parts
from moe_lightning.clustering.fit import FittedClustering, fit_clusterer
from moe_lightning.clustering.report_files import write_pictures
from moe_lightning.clustering.speakers import choose_share, pooled_in_words, speakers_of, towards_speakers
from moe_lightning.clustering.summary import print_summary
from moe_lightning.clustering.utterances import field_values, nuisance_columns, read_utterances, stored_vectors
from moe_lightning.data.embedding_store import EmbeddingStore, StoreEntry
from moe_lightning.data.soft_labels import HardLabels, SoftLabels
from moe_lightning.data.store_info import GRADIENTS_DIR
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.run.folder import RunDir
from moe_lightning.settings.clustering import ClusteringSettings

MOST_SEARCHED = 20_000


def run(settings: ClusteringSettings) -> Clusterer:
    """Fit on the train split, label every utterance in the store, write the stage's files."""
    store = EmbeddingStore.load(settings.embedding_dir)
    refuse_gradients(store, settings.embedding_dir)
    rows = _training_rows(store)
    training = [store.entries[row] for row in rows]
    settings = replace(settings, pool_speakers=choose_share(settings, [entry.contributor_id for entry in training]))
    embeddings_ND = embeddings_of(store, asdict(settings))
    fitted = _fit(embeddings_ND[rows], training, settings)
    fitted.clusterer.info["store"] = asdict(store.info) if store.info else None
    for note in fitted.notes:
        print(f"note: {note}")
    prediction, agreement = label_store(fitted, embeddings_ND, rows)
    fitted.clusterer.info["training_labels_predicted"] = agreement
    files = _write(store.ids, fitted, prediction, settings)
    utterances = _known_utterances([entry.id for entry in training], settings)
    files += write_pictures(fitted, prediction, store.splits_N, training, utterances, settings)
    print_summary(fitted.clusterer, prediction, store.splits_N, files)
    return fitted.clusterer


def embeddings_of(store: EmbeddingStore, settings: Mapping[str, Any]) -> np.ndarray:
    """One vector per utterance with the selected statistics and layers, (N, D), after speaker-level pooling.

    Args:
        settings: Fields of `ClusteringSettings`, or the subset kept by a clusterer.
    """
    stored, info = stored_vectors(store, settings["pooling"], settings["pool_stats"])
    embeddings_ND = select_parts(
        pool(stored, settings["pooling"]), info, settings["pool_stats"], settings.get("layers", ())
    )
    return towards_speakers(embeddings_ND, speakers_of(store), settings.get("pool_speakers") or 0.0)


def label_store(
    fitted: FittedClustering, embeddings_ND: np.ndarray, rows: np.ndarray, most_searched: int = MOST_SEARCHED
) -> tuple[Prediction, float]:
    """Labels of every utterance, and the share of training labels that the saved clusterer reproduces.

    In a large corpus without landmarks, training utterances keep their fitted labels: a search would give the same
    result, but compares every pair. The share is then measured on a sample.

    Args:
        rows: Rows of the training utterances, in the order of the fit.
        most_searched: Up to this many, training utterances are predicted like any other.
    """
    if len(rows) <= most_searched or fitted.partition.landmarks is not None:
        prediction = fitted.clusterer.predict(embeddings_ND)
        return prediction, float((prediction.labels_N[rows] == fitted.partition.labels_N).mean())
    others = np.setdiff1d(np.arange(len(embeddings_ND)), rows)
    values_NV = fitted.partition.landmarks_of(fitted.points_NR).values_NV
    parts = [(rows, fitted.clusterer.predict_by(fitted.points_NR, values_NV))]
    parts += [(others, fitted.clusterer.predict(embeddings_ND[others]))] if len(others) else []
    order = np.argsort(np.concatenate([part for part, _ in parts]))
    labels_N, probs_NE = (np.concatenate([prediction[index] for _, prediction in parts])[order] for index in range(2))
    some = np.sort(np.random.default_rng(0).permutation(len(rows))[:most_searched])
    again_N = fitted.clusterer.predict(embeddings_ND[rows[some]]).labels_N
    return Prediction(labels_N, probs_NE), float((again_N == fitted.partition.labels_N[some]).mean())


def label_files(folder: Path, algorithm: str) -> tuple[Path, Path]:
    """Files of hard and soft labels in a folder with any name."""
    names = RunDir(folder.parent)
    return folder / names.labels_file(algorithm).name, folder / names.soft_labels_file(algorithm).name


def _fit(embeddings_ND: np.ndarray, training: list[StoreEntry], settings: ClusteringSettings) -> FittedClustering:
    ids = [entry.id for entry in training]
    utterances: list[Utterance] = []
    if settings.label_field or settings.residualise:
        utterances = read_utterances(_manifest_dir(settings), ids)
    values = field_values(utterances, settings.label_field) if settings.label_field else None
    nuisance_NJ = nuisance_columns(utterances, settings.residualise) if settings.residualise else None
    speakers = [entry.contributor_id for entry in training]
    gradients_NG = _gradients(settings.embedding_dir, ids) if settings.reduce == "gradients" else None
    fitted = fit_clusterer(embeddings_ND, settings, values, nuisance_NJ, speakers, gradients_NG)
    if not settings.pool_speakers:
        return fitted
    num_speakers = len(set(speakers))
    fitted.clusterer.info["notes"].insert(0, pooled_in_words(num_speakers, settings.pool_speakers))
    return fitted._replace(notes=tuple(fitted.clusterer.info["notes"]))


def refuse_gradients(store: EmbeddingStore, folder: Path) -> None:
    """Raise an InputError for a store of gradients; clustering needs embeddings of speech."""
    if store.info and store.info.kind == "gradients":
        raise InputError(
            "embeddings.shape",
            f"{folder} holds gradients of the loss; take the folder of embeddings that it lies in",
            folder,
        )


def _gradients(embedding_dir: Path, ids: list[str]) -> np.ndarray:
    """Loss gradients of the utterances, (len(ids), G)."""
    try:
        return EmbeddingStore.load(embedding_dir / GRADIENTS_DIR).of(ids)
    except InputError as error:
        problem = "there are none" if isinstance(error, MissingInputError) else str(error)
        raise InputError(
            "embeddings.no-gradients",
            f"--reduce gradients: gradients of the loss lie in {embedding_dir / GRADIENTS_DIR}, and {problem};"
            " `moe-lightning embed --gradients` on this run adds them to its embeddings",
            embedding_dir,
        ) from error


def _training_rows(store: EmbeddingStore) -> np.ndarray:
    """Rows of the train split, sorted by id, so that the order in the store does not matter."""
    rows = np.flatnonzero(store.splits_N == "train")
    if not len(rows):
        raise InputError(
            "corpus.no-split",
            "no entry of mapping.json is of the split train; clusters are fitted on train alone",
            "train",
        )
    return rows[np.argsort(np.array(store.ids)[rows])]


def _write(
    ids: tuple[str, ...], fitted: FittedClustering, prediction: Prediction, settings: ClusteringSettings
) -> list[Path]:
    folder = settings.output_dir
    labels_file, soft_labels_file = label_files(folder, settings.algorithm)
    HardLabels(ids, prediction.labels_N).save(labels_file)
    SoftLabels(ids, prediction.probs_NE).save(soft_labels_file)
    fitted.clusterer.save(folder)
    return [labels_file, soft_labels_file, folder / CONFIG_FILE, folder / ARRAYS_FILE]


def _known_utterances(ids: list[str], settings: ClusteringSettings) -> list[Utterance] | None:
    """Training utterances for the report; None, with a note, if no manifest has them."""
    if not settings.report:
        return None
    try:
        return read_utterances(_manifest_dir(settings), ids)
    except InputError as error:
        if settings.manifest_dir:
            raise
        print(f"note: the report compares the clusters with nothing: {error}")
        return None


def _manifest_dir(settings: ClusteringSettings) -> Path:
    """Folder of the manifests: as given, else the run's."""
    return settings.manifest_dir or RunDir(settings.output_dir.parent).stage_dir("corpus")
