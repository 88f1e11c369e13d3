"""Soft labels from geometry: closeness to the centroids, a temperature, and noise handling."""

from typing import Literal, NamedTuple

import numpy as np

from moe_lightning.clustering.features import unit_rows

COLDEST, HOTTEST = 1e-3, 1e3
Closeness = Literal["cosine", "distance"]
"""Basis of soft labels. The cosine is unreliable for a centroid near the origin; k-means uses distance anyway."""


def centroids_of(points_NR: np.ndarray, labels_N: np.ndarray, num_experts: int) -> np.ndarray:
    """Mean of each cluster's points, (E, R); noise (-1) is left out."""
    return np.stack([points_NR[labels_N == expert].mean(axis=0) for expert in range(num_experts)])


def cosines(points_NR: np.ndarray, centroids_ER: np.ndarray) -> np.ndarray:
    """Cosine between each point and each centroid, (N, E) in [-1, 1]; 0 if one of them is the origin."""
    return unit_rows(points_NR) @ unit_rows(centroids_ER).T


def closeness(points_NR: np.ndarray, centroids_ER: np.ndarray, by: Closeness) -> np.ndarray:
    """Closeness of each point to each centroid, (N, E).

    The cosine; or minus the squared distance, in units of the mean squared distance between centroids.
    """
    if by == "cosine":
        return cosines(points_NR, centroids_ER)
    from sklearn.metrics.pairwise import euclidean_distances

    apart_EE = euclidean_distances(centroids_ER, squared=True)
    num_pairs = apart_EE.size - len(apart_EE)
    unit = apart_EE.sum() / num_pairs if num_pairs else 0.0
    return -euclidean_distances(points_NR, centroids_ER, squared=True) / (unit or 1.0)


def softmax(logits_NE: np.ndarray, temperature: float) -> np.ndarray:
    """Distributions over the experts; a lower temperature makes them harder."""
    powers_NE = np.exp((logits_NE - logits_NE.max(axis=1, keepdims=True)) / temperature)
    return powers_NE / powers_NE.sum(axis=1, keepdims=True)


def normalised_entropy(probs_NE: np.ndarray) -> float:
    """Mean row entropy over log E: 0 is one expert each, 1 is uniform; 0 for a single expert."""
    num_experts = probs_NE.shape[1]
    if num_experts == 1:
        return 0.0
    logs_NE = np.log(probs_NE, out=np.zeros_like(probs_NE), where=probs_NE > 0)
    return float(-(probs_NE * logs_NE).sum(axis=1).mean() / np.log(num_experts))


class Calibration(NamedTuple):
    """A temperature, and the resulting entropy."""

    temperature: float
    entropy: float
    """Mean normalised entropy reached."""


def calibrate_temperature(logits_NE: np.ndarray, target_entropy: float) -> Calibration:
    """Temperature at which the mean normalised entropy of the softmax meets the target.

    Entropy grows with temperature, so bisection on the log temperature finds it. If no temperature meets the target
    (one expert, or points equally near to all centroids), the result is the nearest end of [1e-3, 1e3]; ``entropy``
    shows this.
    """
    low, high = np.log(COLDEST), np.log(HOTTEST)
    for _ in range(50):
        middle = (low + high) / 2
        if normalised_entropy(softmax(logits_NE, np.exp(middle))) < target_entropy:
            low = middle
        else:
            high = middle
    temperature = float(np.exp(high))
    return Calibration(temperature, normalised_entropy(softmax(logits_NE, temperature)))


def sharpen(memberships_NE: np.ndarray, temperature: float) -> np.ndarray:
    """Distributions proportional to ``memberships ** (1 / temperature)``; a row of zeros becomes uniform."""
    logs_NE = np.log(np.maximum(memberships_NE, 1e-12))  # a zero must stay finite, for a row of zeros
    return softmax(logs_NE, temperature)


def place_noise(memberships_NE: np.ndarray, fallback_NE: np.ndarray, noise: str, temperature: float) -> np.ndarray:
    """Distributions from memberships whose rows may sum to less than 1; the rest is noise.

    Args:
        memberships_NE: Not negative; rows sum to at most 1.
        fallback_NE: Distributions by closeness to the centroids.
        noise: ``drop`` discards the noise mass, and a row with only noise takes the fallback; ``nearest`` distributes
            the mass like the fallback, ``uniform`` evenly; ``noop`` keeps it in an additional last column.
        temperature: Sharpens (below 1) the rest; at 1, rows are only renormalised.
    """
    mass_N1 = np.minimum(memberships_NE.sum(axis=1, keepdims=True), 1)  # rounding may exceed 1 slightly
    probs_NE = sharpen(memberships_NE, temperature)
    if noise == "drop":
        return np.where(mass_N1 < 1e-6, fallback_NE, probs_NE)
    if noise == "noop":
        return np.concatenate([mass_N1 * probs_NE, 1 - mass_N1], axis=1)
    spread_NE = fallback_NE if noise == "nearest" else np.full_like(fallback_NE, 1 / fallback_NE.shape[1])
    return mass_N1 * probs_NE + (1 - mass_N1) * spread_NE
