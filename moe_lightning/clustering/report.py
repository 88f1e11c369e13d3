"""Contents of the clustering report, independent of the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_lightning.clustering.association import Association, Verdict, associate, verdict
from moe_lightning.clustering.clusterer import Clusterer, Prediction
from moe_lightning.clustering.fit import FittedClustering
from moe_lightning.clustering.judgement import Separation, Stability, separation, stability
from moe_lightning.clustering.memberships import normalised_entropy
from moe_lightning.clustering.nuisance import NUISANCES, measure, measured_name
from moe_lightning.data.utterance import Utterance, differs_everywhere
from moe_lightning.settings.clustering import ClusteringSettings

MOST_MEASURED = 400
"""Training utterances with measured audio: enough for the associations, and read in seconds."""

Column = list[str | float | None]


@dataclass(frozen=True)
class ClusterRow:
    """One cluster; noise, if any, comes last."""

    name: str
    counts: dict[str, int]
    """Utterances per split."""
    max_probability: float | None
    """Mean largest soft-label probability over its utterances; None if it has none."""


@dataclass(frozen=True)
class Report:
    """Figures of a clustering; for the training utterances unless stated otherwise."""

    algorithm: str
    num_utterances: int
    clusters: tuple[ClusterRow, ...]
    max_probability: float
    entropy: float
    temperature: float
    agreement: float
    """Share of utterances with equal hard label and most likely expert."""
    separation: Separation
    stability: Stability
    training_labels_predicted: float
    """Share of training utterances whose hard label the saved clusterer reproduces."""
    associations: tuple[Association, ...]
    """Strongest first, bookkeeping fields last."""
    verdict: Verdict
    notes: tuple[str, ...]
    candidates: tuple[dict[str, Any], ...]
    """Evidence for the number of experts, if it was chosen automatically."""
    settings: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "algorithm": self.algorithm,
            "num_utterances": self.num_utterances,
            "verdict": self.verdict.sentence,
            "is_warning": self.verdict.is_warning,
            "clusters": [row.__dict__ for row in self.clusters],
            "soft_labels": {
                "max_probability": self.max_probability,
                "normalised_entropy": self.entropy,
                "temperature": self.temperature,
                "agreement_with_hard_labels": self.agreement,
            },
            "training_labels_predicted": self.training_labels_predicted,
            **self.separation._asdict(),
            "stability": self.stability._asdict(),
            "associations": [association._asdict() for association in self.associations],
            "num_experts_candidates": list(self.candidates),
            "notes": list(self.notes),
            "settings": self.settings,
        }


def make_report(
    fitted: FittedClustering,
    prediction: Prediction,
    splits_N: np.ndarray,
    columns: dict[str, Column],
    speakers: Sequence[str],
    settings: ClusteringSettings,
) -> Report:
    """Evaluate a clustering.

    Args:
        prediction: Labels of all utterances in the store.
        splits_N: Their splits.
        columns: Known values of the training utterances, in the order of the fit (see `known_columns`).
        speakers: Their speakers.
    """
    labels_N = fitted.partition.labels_N
    found = [
        associate(name, values, labels_N, None if name == "speaker" else speakers) for name, values in columns.items()
    ]
    known = (one for one in found if one is not None)
    associations = tuple(sorted(known, key=lambda one: (one.is_bookkeeping, -one.ami)))
    probs_NE = prediction.probs_NE
    is_clustered_N = prediction.labels_N >= 0
    agreement = (probs_NE.argmax(axis=1) == prediction.labels_N)[is_clustered_N].mean()
    info = fitted.clusterer.info
    return Report(
        algorithm=fitted.partition.algorithm,
        num_utterances=len(splits_N),
        clusters=_cluster_rows(fitted.clusterer, prediction, splits_N),
        max_probability=float(probs_NE.max(axis=1).mean()),
        entropy=normalised_entropy(probs_NE),
        temperature=fitted.clusterer.temperature,
        agreement=float(agreement),
        separation=separation(fitted.points_NR, labels_N),
        stability=stability(
            fitted.points_NR, fitted.clusterer.num_experts, settings, speakers if settings.pool_speakers else None
        ),
        training_labels_predicted=info["training_labels_predicted"],
        associations=associations,
        verdict=verdict([one for one in associations if one.name != "speaker" or not settings.pool_speakers]),
        notes=fitted.notes,
        candidates=tuple(info["candidates"]),
        settings=info["settings"],
    )


def known_columns(utterances: Sequence[Utterance], seed: int) -> dict[str, Column]:
    """Fields, speaker, and variables measured from the audio (at most 400 utterances), one value per utterance.

    A field that differs in every utterance, such as a file name, is left out.
    """
    names = dict.fromkeys(name for utterance in utterances for name in utterance.fields)
    columns: dict[str, Column] = {"speaker": [utterance.speaker for utterance in utterances]}
    columns |= {name: [utterance.fields.get(name) for utterance in utterances] for name in names}
    columns = {name: values for name, values in columns.items() if not differs_everywhere(values)}
    rows = np.sort(np.random.default_rng(seed).permutation(len(utterances))[:MOST_MEASURED])
    measured = measure([utterances[row] for row in rows])
    for name in NUISANCES:
        values: Column = [None] * len(utterances)
        for row, value in zip(rows, measured[name].tolist(), strict=True):
            values[row] = None if np.isnan(value) else value
        columns[measured_name(name, columns)] = values
    return columns


def _cluster_rows(clusterer: Clusterer, prediction: Prediction, splits_N: np.ndarray) -> tuple[ClusterRow, ...]:
    rows = []
    for cluster in [*range(clusterer.num_experts), -1]:
        is_own_N = prediction.labels_N == cluster
        if cluster == -1 and not is_own_N.any():
            continue
        counts = {str(split): int((is_own_N & (splits_N == split)).sum()) for split in dict.fromkeys(splits_N.tolist())}
        sure = float(prediction.probs_NE[is_own_N].max(axis=1).mean()) if is_own_N.any() else None
        rows.append(ClusterRow("noise" if cluster == -1 else str(cluster), counts, sure))
    return tuple(rows)
