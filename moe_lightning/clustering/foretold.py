"""Directions in which embeddings foretell the gradients of the loss: who needs other training lies apart there.

Embeddings tell voices apart far better than accents, and a mixture of experts has nothing of groups that
need the same weights. The gradient of an utterance's loss (see `moe_lightning.embedding.gradients`) says which
weights it needs, but of one utterance it is noise for the most part, and there is none without a transcript. The
part of it that the embedding foretells has neither fault: it is a linear map of the embedding, so that new audio
is placed by it too.
"""

import numpy as np

from moe_lightning.errors import InputError

MOST_REGRESSED = 20_000
"""Rows that the map is learned from; of more, so many by chance."""
PENALTIES = np.logspace(-3, 2, 11)
"""A row; the one that foretells left-out rows best is taken."""


def foretelling_directions(
    rows_ND: np.ndarray, gradients_NG: np.ndarray, dim: int, seed: int = 42
) -> tuple[np.ndarray, float]:
    """Map of centred rows to the principal coordinates of the gradients that they foretell.

    Ridge regression of the gradients on the rows, the penalty by leave-one-out errors (in closed form,
    scikit-learn's `RidgeCV`); then PCA of what it foretells. As gradients are clipped in training, so that
    a faulty transcript does not outweigh the others, those longer than the median are cut to that length.

    Returns:
        (R, D), R = dim or the size of the gradients, and the share of the gradients' variance that is
        foretold of rows that are left out: 0 or less where embeddings say nothing of them.

    Raises:
        InputError: The gradients are all the same.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeCV

    some = np.sort(np.random.default_rng(seed).permutation(len(rows_ND))[:MOST_REGRESSED])
    rows_MD, targets_MG = rows_ND[some], clipped(gradients_NG[some].astype(np.float64))
    targets_MG = targets_MG - targets_MG.mean(axis=0)
    variance = float(targets_MG.var(axis=0).mean())
    if not variance > 0:
        raise InputError("--reduce gradients: the gradients of all utterances are the same; take --reduce pca")
    ridge = RidgeCV(PENALTIES * len(rows_MD), fit_intercept=False).fit(rows_MD, targets_MG)
    foretold_MG = ridge.predict(rows_MD)
    principal = PCA(min(dim, *foretold_MG.shape), svd_solver="full", random_state=seed).fit(foretold_MG)
    return principal.components_ @ ridge.coef_, 1 + float(ridge.best_score_) / variance


def clipped(gradients_NG: np.ndarray) -> np.ndarray:
    """Rows at most as long as the median row."""
    lengths_N = np.linalg.norm(gradients_NG, axis=1)
    return gradients_NG * np.minimum(1, np.median(lengths_N) / np.maximum(lengths_N, 1e-30))[:, None]
