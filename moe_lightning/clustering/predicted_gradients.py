"""Predict loss gradients from embeddings, and reduce to the predicted directions.

Embeddings separate voices far better than accents, but a mixture of experts gains nothing from groups that need the
same weights. An utterance's loss gradient (see `moe_lightning.embedding.gradients`) shows the weights it needs. But a
single gradient is mostly noise, and without a transcript there is none. The gradient predicted from the embedding has
neither problem: it is a linear map of the embedding, so new audio can be placed too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from moe_lightning.errors import InputError

MOST_REGRESSED = 20_000
"""Rows for fitting the map; if there are more, a random sample of this size."""
PENALTIES = np.logspace(-3, 2, 11)
"""Per row, in units of the rows' variance; the best one on left-out speakers is used."""
NUM_FOLDS = 5


class PredictedGradients(NamedTuple):
    """Result of predicting gradients from embeddings."""

    directions_RD: np.ndarray
    """Map from centred rows to the principal coordinates of the predicted gradients."""
    share: float
    """Share of the gradients' variance explained on left-out speakers; 0 or less: embeddings predict nothing."""


def predicted_directions(
    rows_ND: np.ndarray, gradients_NG: np.ndarray, dim: int, speakers: Sequence[str] | None = None, seed: int = 42
) -> PredictedGradients:
    """Ridge regression of the gradients on the rows, then PCA of the predicted gradients.

    The penalty is the one with the lowest error on left-out speakers (5-fold). Gradients longer than the median are
    cut to that length, like gradient clipping in training: so a faulty transcript does not outweigh the others.

    Args:
        rows_ND: Centred.
        dim: Upper limit for R; rows and gradient size are further limits.
        speakers: Speaker per row; None: every row is another speaker.

    Raises:
        InputError: All gradients are the same.
    """
    from sklearn.decomposition import PCA

    some = np.sort(np.random.default_rng(seed).permutation(len(rows_ND))[:MOST_REGRESSED])
    rows_MD, targets_MG = rows_ND[some], clipped(gradients_NG[some].astype(np.float64))
    targets_MG = targets_MG - targets_MG.mean(axis=0)
    if not targets_MG.any():
        raise InputError(
            "clusters.no-signal", "--reduce gradients: the gradients of all utterances are the same; take --reduce pca"
        )
    fold_M = _folds(np.array(speakers or [""] * len(rows_ND))[some], seed)
    penalties = PENALTIES * (float(rows_MD.var(axis=0).mean()) or 1.0)
    errors_FP = [_left_out_errors(rows_MD, targets_MG, fold_M == fold, penalties) for fold in np.unique(fold_M)]
    errors_P = np.sum(errors_FP, axis=0)
    best = int(errors_P.argmin())
    weights_DG = _ridge(rows_MD, targets_MG, penalties[best : best + 1])[0]
    predicted_MG = rows_MD @ weights_DG
    principal = PCA(min(dim, *predicted_MG.shape), svd_solver="full", random_state=seed).fit(predicted_MG)
    return PredictedGradients(
        principal.components_ @ weights_DG.T, 1 - float(errors_P[best]) / float((targets_MG**2).sum())
    )


def clipped(gradients_NG: np.ndarray) -> np.ndarray:
    """Clip the length of rows to the median length."""
    lengths_N = np.linalg.norm(gradients_NG, axis=1)
    return gradients_NG * np.minimum(1, np.median(lengths_N) / np.maximum(lengths_N, 1e-30))[:, None]


def _folds(speakers_M: np.ndarray, seed: int) -> np.ndarray:
    """Fold number per row; each speaker is in one fold, and "" counts as a speaker of its own per row."""
    own_M = np.arange(len(speakers_M)).astype(str)
    names, speaker_M = np.unique(np.where(speakers_M == "", own_M, speakers_M), return_inverse=True)
    order_S = np.random.default_rng(seed).permutation(len(names))
    return np.asarray((order_S % min(NUM_FOLDS, len(names)))[speaker_M])


def _left_out_errors(
    rows_MD: np.ndarray, targets_MG: np.ndarray, is_out_M: np.ndarray, penalties: np.ndarray
) -> np.ndarray:
    """Sum of squared errors on the left-out rows after fitting on the others, one per penalty."""
    weights_PDG = _ridge(rows_MD[~is_out_M], targets_MG[~is_out_M], penalties)
    return np.array([((targets_MG[is_out_M] - rows_MD[is_out_M] @ one_DG) ** 2).sum() for one_DG in weights_PDG])


def _ridge(rows_MD: np.ndarray, targets_MG: np.ndarray, penalties: np.ndarray) -> list[np.ndarray]:
    """Ridge regression weights (D, G), one per penalty (a value per row), from one decomposition."""
    values_D, vectors_DD = np.linalg.eigh(rows_MD.T @ rows_MD / max(1, len(rows_MD)))
    turned_DG = vectors_DD.T @ (rows_MD.T @ targets_MG) / max(1, len(rows_MD))
    return [vectors_DD @ (turned_DG / (values_D.clip(0) + penalty)[:, None]) for penalty in penalties]
