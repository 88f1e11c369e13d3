"""Choose the number of clusters: ``--num-experts auto``."""

from typing import NamedTuple

import numpy as np

from moe_lightning.clustering.spectral import neighbour_graph

MOST_EXPERTS = 16
MOST_POINTS = 1_500
NUM_RESAMPLES = 4
STABLE_ENOUGH = 0.9
"""Relative to the best candidate's stability; the eigengap chooses among the candidates above it."""
UNSURE = 0.5


class Candidate(NamedTuple):
    """A number of experts, and its evidence."""

    num_experts: int
    eigengap: float
    """Between the E-th and the next eigenvalue of the normalised neighbour graph: larger if the points split better
    into E parts than into E + 1.
    """
    stability: float
    """Mean adjusted Rand index between clusters of all points and clusters of four 80 % samples."""


class Choice(NamedTuple):
    """The chosen number of experts, and the evidence."""

    num_experts: int
    candidates: tuple[Candidate, ...]

    def in_words(self) -> str:
        """One sentence for the user."""
        if not self.candidates:
            return "--num-experts auto: too few utterances to tell clusters apart, 1 expert"
        chosen = next(candidate for candidate in self.candidates if candidate.num_experts == self.num_experts)
        said = (
            f"--num-experts auto: {self.num_experts} (eigengap {chosen.eigengap:.3f}, stability {chosen.stability:.2f})"
        )
        return said if chosen.stability >= UNSURE else f"{said}; no number is stable, the groups may not be real"


class _Spectrum(NamedTuple):
    values_C: np.ndarray
    """Largest eigenvalues, decreasing."""
    vectors_NC: np.ndarray


def choose_num_experts(points_NR: np.ndarray, seed: int, most: int = MOST_EXPERTS) -> Choice:
    """Choose the widest eigengap among the numbers with nearly the best stability.

    Uses at most 1,500 random points. Fewer than six points are one cluster.
    """
    random = np.random.default_rng(seed)
    points_NR = points_NR[np.sort(random.permutation(len(points_NR))[:MOST_POINTS])]
    most = min(most, len(points_NR) // 3)
    if most < 2:
        return Choice(1, ())
    whole = _spectrum(points_NR, most)
    samples = [np.sort(random.permutation(len(points_NR))[: round(0.8 * len(points_NR))]) for _ in range(NUM_RESAMPLES)]
    spectra = [_spectrum(points_NR[sample], most) for sample in samples]
    candidates = tuple(
        Candidate(
            num_experts,
            float(whole.values_C[num_experts - 1] - whole.values_C[num_experts]),
            _stability(whole, spectra, samples, num_experts, seed),
        )
        for num_experts in range(2, most + 1)
    )
    floor = STABLE_ENOUGH * max(candidate.stability for candidate in candidates)
    stable = [candidate for candidate in candidates if candidate.stability >= floor]
    return Choice(max(stable, key=lambda candidate: candidate.eigengap).num_experts, candidates)


def _spectrum(points_NR: np.ndarray, most: int) -> _Spectrum:
    from scipy.linalg import eigh

    graph_NN = neighbour_graph(points_NR).toarray()
    scale_N = graph_NN.sum(axis=1) ** -0.5
    wanted = (len(points_NR) - most - 1, len(points_NR) - 1)
    values, vectors = eigh(scale_N[:, None] * graph_NN * scale_N, subset_by_index=wanted)
    return _Spectrum(values[::-1], scale_N[:, None] * vectors[:, ::-1])


def _stability(
    whole: _Spectrum, spectra: list[_Spectrum], samples: list[np.ndarray], num_experts: int, seed: int
) -> float:
    from sklearn.metrics import adjusted_rand_score

    labels_N = _labels(whole, num_experts, seed)
    pairs = zip(spectra, samples, strict=True)
    scores = [adjusted_rand_score(labels_N[rows], _labels(spectrum, num_experts, seed)) for spectrum, rows in pairs]
    return float(np.mean(scores))


def _labels(spectrum: _Spectrum, num_experts: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    fit = KMeans(num_experts, n_init=4, random_state=seed)
    return fit.fit_predict(spectrum.vectors_NC[:, :num_experts]).astype(np.int64)
