"""From stored embeddings to the clustered space: pooled, standardised, reduced.

Everything is fitted on the training rows and kept, so new embeddings are transformed in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from moe_lightning.clustering.neighbours import Neighbours
from moe_lightning.clustering.nuisance import Removal, fit_removal
from moe_lightning.clustering.predicted_gradients import predicted_directions
from moe_lightning.data.store_info import StoreInfo
from moe_lightning.errors import InputError


def pool(embeddings: np.ndarray, pooling: str) -> np.ndarray:
    """One vector per utterance.

    Args:
        embeddings: (N, D) from a pooled store: returned unchanged; (N, T, D) from a store with frames.
        pooling: ``mean`` over T, ``flatten`` to T * D, ``none`` for a pooled store.
    """
    if embeddings.ndim == 2:
        return embeddings
    if embeddings.ndim != 3:
        raise InputError(
            "embeddings.shape",
            f"embeddings must have the shape (N, D) or (N, T, D), got {embeddings.shape}",
            embeddings.shape,
        )
    if pooling == "none":
        raise InputError(
            "embeddings.shape",
            f"--pooling none needs one vector an utterance, the store holds {embeddings.shape[1:]} each",
            embeddings.shape,
        )
    return embeddings.mean(axis=1) if pooling == "mean" else embeddings.reshape(len(embeddings), -1)


def select_parts(
    embeddings_ND: np.ndarray, info: StoreInfo | None, stats: str | None = None, layers: Sequence[str] = ()
) -> np.ndarray:
    """Select statistics and encoder layers from embeddings that join several.

    Args:
        info: Info of the store; None if unknown: then the embeddings are taken as the mean of the last layer.
        stats: ``mean``, ``mean+std``, or None for all.
        layers: Names as in the store; empty: all.

    Raises:
        InputError: The store does not hold them.
    """
    pooling, stored = (info.pooling, info.embedding_layer) if info else ("mean", "last")
    if (stats == "mean+std" and pooling != stats) or (stats and pooling == "flatten"):
        raise InputError(
            "setting.conflict",
            f"--pool-stats {stats}: the store holds {pooling}; embed with --pooling {stats}",
            f"--pool-stats {stats}",
        )
    missing = [layer for layer in layers if layer not in stored.split(",")]
    if missing or (layers and pooling == "flatten"):
        held = f"layers {stored} flattened" if pooling == "flatten" else f"layers {stored}"
        wanted = ",".join(layers)
        raise InputError(
            "setting.conflict",
            f"--layers {wanted}: the store holds {held}; embed with --embedding-layer {wanted}",
            f"--layers {wanted}",
        )
    parts = [part.split() for part in info.parts] if info and pooling != "flatten" else []
    is_kept = [(stats != "mean" or part[2] == "mean") and (not layers or part[1] in layers) for part in parts]
    if all(is_kept):
        return embeddings_ND
    blocks = np.split(embeddings_ND, len(parts), axis=1)
    return np.concatenate([block for block, keep in zip(blocks, is_kept, strict=True) if keep], axis=1)


@dataclass(frozen=True)
class FeatureSpace:
    """Standardisation and reduction, fitted on the training rows."""

    mean_D: np.ndarray
    scale_D: np.ndarray
    """Zero for a dimension that is constant in training; this removes it."""
    removed: Removal | None = None
    """Nuisance directions, removed after standardisation."""
    components_RD: np.ndarray | None = None
    """Principal directions of the embeddings or of their predicted gradients; None without either."""
    umap: Neighbours | None = None
    """Training rows before UMAP, with their coordinates after it; None without UMAP."""
    unit_length: bool = False
    """Rows are finally divided by their length (cosine as a Euclidean distance)."""
    notes: tuple[str, ...] = field(default=(), compare=False)

    def transform(self, embeddings_ND: np.ndarray) -> np.ndarray:
        """Rows in the clustered space, (N, R) float64.

        With UMAP, a row goes to the distance-weighted mean of its nearest training rows' coordinates (also the start
        of umap-learn's own transform); a training row goes to its own coordinates.

        Raises:
            InputError: Another size than the training rows, or values that are not finite.
        """
        check_embeddings(embeddings_ND, self.mean_D.size)
        rows = (embeddings_ND.astype(np.float64) - self.mean_D) * self.scale_D
        if self.removed is not None:
            rows = self.removed.apply(rows)
        if self.components_RD is not None:
            rows = rows @ self.components_RD.T
        if self.umap is not None:
            rows = self.umap.average(rows)
        return unit_rows(rows) if self.unit_length else rows


class FittedSpace(NamedTuple):
    """A feature space, and the training rows in it."""

    space: FeatureSpace
    points_NR: np.ndarray


def fit_features(
    embeddings_ND: np.ndarray,
    *,
    standardise: bool = True,
    reduce: str = "pca",
    reduce_dim: int = 50,
    unit_length: bool = False,
    nuisance_NJ: np.ndarray | None = None,
    gradients_NG: np.ndarray | None = None,
    speakers: Sequence[str] | None = None,
    seed: int = 42,
) -> FittedSpace:
    """Fit the space to training rows; ``reduce_dim`` is lowered, with a note, if rows or columns are too few.

    Args:
        nuisance_NJ: Variables whose linear trace is removed, one per column.
        gradients_NG: Loss gradient per row; required by the reduction ``gradients``.
        speakers: Speaker per row, if known; gradient prediction is then tuned on left-out speakers.
    """
    check_embeddings(embeddings_ND)
    rows_ND = embeddings_ND.astype(np.float64)
    is_centred = standardise or reduce in ("pca", "gradients")  # cosines of raw embeddings need the true origin
    mean_D = rows_ND.mean(axis=0) if is_centred else np.zeros(rows_ND.shape[1])
    scale_D = _inverse_deviation(rows_ND, mean_D) if standardise else np.ones_like(mean_D)
    notes: list[str] = []
    dim = _affordable_dim(reduce, reduce_dim, rows_ND.shape, notes)
    rows_ND = (rows_ND - mean_D) * scale_D
    removed = None if nuisance_NJ is None else fit_removal(rows_ND, nuisance_NJ)
    rows_ND = rows_ND if removed is None else removed.apply(rows_ND)
    components_RD = _principal_directions(rows_ND, dim, seed) if reduce == "pca" else None
    if reduce == "gradients":
        assert gradients_NG is not None
        components_RD, share = predicted_directions(rows_ND, gradients_NG, dim, speakers, seed)
        notes.append(
            f"the embeddings predict {share:.0%} of the variance of the gradients of left-out speakers"
            if share >= 0.005
            else "the embeddings predict nothing of the gradients, so these clusters mean little; take --reduce pca"
        )
    umap = Neighbours(rows_ND, _umap(rows_ND, dim, seed)) if reduce == "umap" else None
    space = FeatureSpace(mean_D, scale_D, removed, components_RD, umap, unit_length, tuple(notes))
    return FittedSpace(space, space.transform(embeddings_ND))


def check_embeddings(embeddings_ND: np.ndarray, dim: int | None = None) -> None:
    """Raise an InputError unless this is a finite matrix, with ``dim`` columns if given."""
    if embeddings_ND.ndim != 2 or 0 in embeddings_ND.shape:
        raise InputError(
            "embeddings.shape",
            f"embeddings must have the shape (N, D) with N and D at least 1, got {embeddings_ND.shape}",
            embeddings_ND.shape,
        )
    if dim is not None and embeddings_ND.shape[1] != dim:
        raise InputError(
            "embeddings.shape",
            f"the clustering was made on embeddings of size {dim}, got {embeddings_ND.shape[1]}",
            embeddings_ND.shape,
        )
    is_bad_N = ~np.isfinite(embeddings_ND).all(axis=1)
    if is_bad_N.any():
        raise InputError(
            "embeddings.not-finite",
            f"{is_bad_N.sum()} of {len(is_bad_N)} embeddings hold NaN or infinity, first row {is_bad_N.argmax()};"
            " make them again with `moe-lightning embed`",
            int(is_bad_N.argmax()),
        )


def unit_rows(rows_ND: np.ndarray) -> np.ndarray:
    """Rows divided by their length; a row of zeros stays."""
    lengths_N = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return np.divide(rows_ND, lengths_N, out=np.zeros_like(rows_ND), where=lengths_N > 0)


def _inverse_deviation(rows_ND: np.ndarray, mean_D: np.ndarray) -> np.ndarray:
    deviation_D = rows_ND.std(axis=0)
    varies_D = deviation_D > 1e-6 * (np.abs(mean_D) + 1e-12)  # anything smaller is float32 rounding
    return np.divide(1.0, deviation_D, out=np.zeros_like(deviation_D), where=varies_D)


def _affordable_dim(reduce: str, reduce_dim: int, shape: tuple[int, ...], notes: list[str]) -> int:
    # UMAP's spectral initialisation needs two rows more than dimensions
    most = max(1, min(shape) if reduce != "umap" else min(shape[0] - 2, shape[1]))
    if reduce == "none" or reduce_dim <= most:
        return reduce_dim
    notes.append(f"--reduce-dim {reduce_dim} lowered to {most}: the train split has {shape[0]} rows of size {shape[1]}")
    return most


def _principal_directions(rows_ND: np.ndarray, dim: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    if not rows_ND.any():
        return np.eye(dim, rows_ND.shape[1])
    return PCA(dim, random_state=seed).fit(rows_ND).components_


def _umap(rows_ND: np.ndarray, dim: int, seed: int) -> np.ndarray:
    from moe_lightning.clustering.umap_layout import umap_layout

    return umap_layout(rows_ND, dim, seed)
