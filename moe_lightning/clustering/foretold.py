"""Directions in which embeddings foretell the gradients of the loss: who needs other training lies apart there.

Embeddings tell voices apart far better than accents, and a mixture of experts has nothing of groups that
need the same weights. The gradient of an utterance's loss (see `moe_lightning.embedding.gradients`) says which
weights it needs, but of one utterance it is noise for the most part, and there is none without a transcript. The
part of it that the embedding foretells has neither fault: it is a linear map of the embedding, so that new audio
is placed by it too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from moe_lightning.errors import InputError

MOST_REGRESSED = 20_000
"""Rows that the map is learned from; of more, so many by chance."""
PENALTIES = np.logspace(-3, 2, 11)
"""A row, in units of the rows' variance; the one that foretells left-out speakers best is taken."""
NUM_FOLDS = 5


class Foretold(NamedTuple):
    """How embeddings foretell gradients."""

    directions_RD: np.ndarray
    """Map of centred rows to the principal coordinates of the gradients that they foretell."""
    share: float
    """Of the gradients' variance, of speakers that are left out; 0 or less where embeddings say nothing of them."""


def foretelling_directions(
    rows_ND: np.ndarray, gradients_NG: np.ndarray, dim: int, speakers: Sequence[str] | None = None, seed: int = 42
) -> Foretold:
    """Ridge regression of the gradients on the rows, then PCA of what it foretells.

    The penalty is the one with the least error on speakers that are left out, a fifth of them at a time. As
    gradients are clipped in training, so that a faulty transcript does not outweigh the others, those longer
    than the median are cut to that length.

    Args:
        rows_ND: Centred.
        dim: R, at most; it cannot be more than rows or the gradients' size.
        speakers: Of each row; None: each row is somebody else's.

    Raises:
        InputError: The gradients are all the same.
    """
    from sklearn.decomposition import PCA

    some = np.sort(np.random.default_rng(seed).permutation(len(rows_ND))[:MOST_REGRESSED])
    rows_MD, targets_MG = rows_ND[some], clipped(gradients_NG[some].astype(np.float64))
    targets_MG = targets_MG - targets_MG.mean(axis=0)
    if not targets_MG.any():
        raise InputError("--reduce gradients: the gradients of all utterances are the same; take --reduce pca")
    fold_M = _folds(np.array(speakers or [""] * len(rows_ND))[some], seed)
    penalties = PENALTIES * (float(rows_MD.var(axis=0).mean()) or 1.0)
    errors_FP = [_left_out_errors(rows_MD, targets_MG, fold_M == fold, penalties) for fold in np.unique(fold_M)]
    errors_P = np.sum(errors_FP, axis=0)
    best = int(errors_P.argmin())
    weights_DG = _ridge(rows_MD, targets_MG, penalties[best : best + 1])[0]
    foretold_MG = rows_MD @ weights_DG
    principal = PCA(min(dim, *foretold_MG.shape), svd_solver="full", random_state=seed).fit(foretold_MG)
    return Foretold(principal.components_ @ weights_DG.T, 1 - float(errors_P[best]) / float((targets_MG**2).sum()))


def clipped(gradients_NG: np.ndarray) -> np.ndarray:
    """Rows at most as long as the median row."""
    lengths_N = np.linalg.norm(gradients_NG, axis=1)
    return gradients_NG * np.minimum(1, np.median(lengths_N) / np.maximum(lengths_N, 1e-30))[:, None]


def _folds(speakers_M: np.ndarray, seed: int) -> np.ndarray:
    """Number of the fold of each row; a speaker is in one of them, and "" is nobody in particular."""
    own_M = np.arange(len(speakers_M)).astype(str)
    names, speaker_M = np.unique(np.where(speakers_M == "", own_M, speakers_M), return_inverse=True)
    order_S = np.random.default_rng(seed).permutation(len(names))
    return np.asarray((order_S % min(NUM_FOLDS, len(names)))[speaker_M])


def _left_out_errors(
    rows_MD: np.ndarray, targets_MG: np.ndarray, is_out_M: np.ndarray, penalties: np.ndarray
) -> np.ndarray:
    """Sum of squared errors on some rows of regressions on the others, one a penalty."""
    weights_PDG = _ridge(rows_MD[~is_out_M], targets_MG[~is_out_M], penalties)
    return np.array([((targets_MG[is_out_M] - rows_MD[is_out_M] @ one_DG) ** 2).sum() for one_DG in weights_PDG])


def _ridge(rows_MD: np.ndarray, targets_MG: np.ndarray, penalties: np.ndarray) -> list[np.ndarray]:
    """Weights (D, G) of a ridge regression for each penalty a row, by one decomposition."""
    values_D, vectors_DD = np.linalg.eigh(rows_MD.T @ rows_MD / max(1, len(rows_MD)))
    turned_DG = vectors_DD.T @ (rows_MD.T @ targets_MG) / max(1, len(rows_MD))
    return [vectors_DD @ (turned_DG / (values_D.clip(0) + penalty)[:, None]) for penalty in penalties]
