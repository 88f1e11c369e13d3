"""Soft assignment of utterances to experts, from the gate's prior and each expert's loss.

The clusters are a start, not the truth: a round of refinement is the E step of expectation maximisation
(Jordan and Jacobs 1994, "Hierarchical mixtures of experts and the EM algorithm"), with the experts' loads balanced
over the corpus by Sinkhorn's iteration (Cuturi 2013, arXiv:1306.0895, section 4; for experts: Clark et al. 2022,
arXiv:2202.01169, under the name S-BASE).
"""

from typing import NamedTuple

import numpy as np

from moe_lightning.errors import InputError

FARTHEST = 50.0
"""Cap in nats on an expert's distance below an utterance's best one: e^-50 is negligible in any corpus, and
keeps every expert reachable when its share of the corpus demands it.
"""
_TOLERANCE = 1e-6
_MAX_ITERATIONS = 200


class Judgement(NamedTuple):
    """A gate's choices compared with the losses of all experts, means over the utterances."""

    chosen_loss: float
    """Nats per token under the likeliest expert of each utterance."""
    best_loss: float
    """The same under each utterance's best expert: the loss of a gate without errors."""
    regret: float
    """Their difference."""
    is_best: float
    """Share of utterances with the best expert as the likeliest."""


def responsibilities(priors_NE: np.ndarray, losses_NE: np.ndarray, temperature: float) -> np.ndarray:
    """Distributions proportional to ``prior * exp(-loss / temperature)``.

    Args:
        priors_NE: From the gate; rows sum to 1.
        losses_NE: Nats per token of each utterance under each expert. A mean, so that a long utterance is not
            decided by its length. An expert's loss on its own training utterances is too low, increasingly so
            in longer training: the temperature counteracts that as well.
        temperature: Advantage in nats per token that makes an expert count e times more.

    Returns:
        ``probs_NE``, float64; rows sum to 1. Where a loss is not finite, the prior stays.

    Raises:
        InputError: The temperature is not positive.
    """
    if not temperature > 0:
        raise InputError(
            "setting.range",
            f"the temperature of the refinement must be over 0 nats a token, got {temperature}",
            f"temperature={temperature}",
        )
    is_known_N1 = np.isfinite(losses_NE).all(axis=1, keepdims=True)
    evidence_NE = np.where(is_known_N1, -losses_NE.astype(np.float64), 0.0) / temperature
    return _normalised(_logs(priors_NE) + evidence_NE)


def balanced(probs_NE: np.ndarray, shares_E: np.ndarray) -> np.ndarray:
    """The distributions nearest to the given ones (in Kullback-Leibler divergence) with the wanted expert loads.

    Args:
        probs_NE: Rows sum to 1.
        shares_E: Wanted share of the corpus per expert; they sum to 1.

    Returns:
        Float64; rows sum to 1, the means of the columns are ``shares_E`` within 1e-6.

    Raises:
        InputError: An expert would get nothing, or the shares do not sum to 1.
    """
    if (shares_E <= 0).any() or abs(shares_E.sum() - 1) > 1e-6:
        raise InputError(
            "setting.range", f"the experts' shares must be over 0 and sum to 1, got {shares_E.tolist()}", "shares"
        )
    logs_NE = _logs(probs_NE)
    logs_NE = np.maximum(logs_NE - logs_NE.max(axis=1, keepdims=True), -FARTHEST)
    offsets_E = np.zeros(len(shares_E))
    for _ in range(_MAX_ITERATIONS):
        rows_NE = _normalised(logs_NE + offsets_E)
        if np.abs(rows_NE.mean(axis=0) - shares_E).max() <= _TOLERANCE:
            break
        offsets_E = _better_offsets(logs_NE, rows_NE, offsets_E, shares_E)
    return rows_NE


def _better_offsets(
    logs_NE: np.ndarray, rows_NE: np.ndarray, offsets_E: np.ndarray, shares_E: np.ndarray
) -> np.ndarray:
    """Column offsets with expert loads nearer to the wanted ones.

    They are the E unknowns of a convex problem (the dual one), so Newton's step is small. It needs about ten steps
    where Sinkhorn's own step, taken if Newton's does not help, needs thousands for nearly one-hot distributions
    (Brauer et al. 2017, arXiv:1710.06635).
    """
    means_E = rows_NE.mean(axis=0)
    excess_E = means_E - shares_E
    curvature_EE = np.diag(means_E + 1e-3 * np.abs(excess_E).max() + 1e-12) - rows_NE.T @ rows_NE / len(rows_NE)
    step_E = -np.linalg.solve(curvature_EE, excess_E)
    step_E *= min(1.0, FARTHEST / np.abs(step_E).max())
    before = _dual(logs_NE, offsets_E, shares_E)
    for shrink in 0.5 ** np.arange(20):
        if _dual(logs_NE, offsets_E + shrink * step_E, shares_E) < before + 1e-4 * shrink * (excess_E @ step_E):
            return offsets_E + shrink * step_E
    return offsets_E + np.log(shares_E) - np.log(means_E)


def _dual(logs_NE: np.ndarray, offsets_E: np.ndarray, shares_E: np.ndarray) -> float:
    """Dual objective: least where the columns' means are the wanted shares."""
    moved_NE = logs_NE + offsets_E
    most_N1 = moved_NE.max(axis=1, keepdims=True)
    log_sums_N1 = most_N1 + np.log(np.exp(moved_NE - most_N1).sum(axis=1, keepdims=True))
    return float(log_sums_N1.mean() - shares_E @ offsets_E)


def wanted_shares(probs_NE: np.ndarray, balance: float) -> np.ndarray:
    """Shares of the corpus between each expert's mean probability (0) and equal shares (1).

    Raises:
        InputError: ``balance`` is not in 0 to 1.
    """
    if not 0 <= balance <= 1:
        raise InputError(
            "setting.range", f"the balance of the refinement must be in 0 to 1, got {balance}", f"balance={balance}"
        )
    shares_E = probs_NE.mean(axis=0) * (1 - balance) + balance / probs_NE.shape[1]
    return np.maximum(shares_E, 1e-9) / np.maximum(shares_E, 1e-9).sum()


def judge(gates_NE: np.ndarray, losses_NE: np.ndarray) -> Judgement:
    """Loss of the likeliest expert beside the best one's; utterances with a loss that is not finite are left out.

    Raises:
        InputError: No utterance has finite losses.
    """
    is_known_N = np.isfinite(losses_NE).all(axis=1)
    if not is_known_N.any():
        raise InputError(
            "training.not-finite", "no utterance has a finite loss under every expert; train with a lower learning rate"
        )
    losses_NE, chosen_N = losses_NE[is_known_N].astype(np.float64), gates_NE[is_known_N].argmax(axis=1)
    chosen_loss_N = losses_NE[np.arange(len(chosen_N)), chosen_N]
    best_loss_N = losses_NE.min(axis=1)
    return Judgement(
        float(chosen_loss_N.mean()),
        float(best_loss_N.mean()),
        float((chosen_loss_N - best_loss_N).mean()),
        float((chosen_loss_N <= best_loss_N).mean()),
    )


def _logs(probs_NE: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probs_NE.astype(np.float64), 1e-300))


def _normalised(logs_NE: np.ndarray) -> np.ndarray:
    probs_NE = np.exp(logs_NE - logs_NE.max(axis=1, keepdims=True))
    return probs_NE / probs_NE.sum(axis=1, keepdims=True)
