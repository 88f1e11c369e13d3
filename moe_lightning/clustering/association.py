"""Association between the clusters and other variables: manifest fields and properties measured from the audio."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from moe_lightning.clustering.nuisance import is_nuisance
from moe_lightning.data.utterance import is_bookkeeping

NUM_BINS = 5
MOST_VALUES = 30
"""A field with more values gets no table; it would be unreadable."""
NUM_PERMUTATIONS = 50
NOTHING = 0.05
"""Adjusted mutual information below this counts as chance."""


class Association(NamedTuple):
    """Association between one variable and the clusters."""

    name: str
    is_nuisance: bool
    """Measured from the audio; clusters should not follow it."""
    is_bookkeeping: bool
    """Describes the filing, such as a licence: shown, but no explanation for clusters."""
    ami: float
    """Adjusted mutual information: 0 is chance, 1 the same partition."""
    purity: float
    """Share of utterances with their cluster's most frequent value."""
    chance_purity: float
    """Share of the most frequent value overall."""
    num_missing: int
    values: tuple[str, ...]
    """Empty for more than thirty values."""
    counts_CV: tuple[tuple[int, ...], ...]
    """Utterances per cluster and value; noise, if any, is the last cluster."""


def associate(
    name: str,
    values: Sequence[str | float | None],
    labels_N: np.ndarray,
    speakers: Sequence[str] | None = None,
) -> Association | None:
    """Compare a variable with the clusters; None if fewer than two values occur.

    Numbers with more than eight different values are cut into five bins with equally many utterances.

    Args:
        speakers: Speaker per utterance; chance is then estimated by speaker, see `information`.
    """
    texts, ordered = _as_categories(values)
    is_known_N = np.array([text is not None for text in texts])
    if len(ordered) < 2:
        return None
    code_of = {text: code for code, text in enumerate(ordered)}
    codes_N = np.array([code_of[text] for text in texts if text is not None])
    clusters_N = labels_N[is_known_N]
    counts_CV = _counts(clusters_N, codes_N, labels_N, len(ordered))
    is_small = len(ordered) <= MOST_VALUES
    return Association(
        name,
        is_nuisance(name),
        is_bookkeeping(name, values),
        information(codes_N, clusters_N, None if speakers is None else np.array(speakers)[is_known_N]),
        float(counts_CV.max(axis=1).sum() / counts_CV.sum()),
        float(counts_CV.sum(axis=0).max() / counts_CV.sum()),
        int((~is_known_N).sum()),
        tuple(ordered) if is_small else (),
        tuple(map(tuple, counts_CV.tolist())) if is_small else (),
    )


def information(codes_N: np.ndarray, clusters_N: np.ndarray, speakers_N: np.ndarray | None = None) -> float:
    """Adjusted mutual information between a variable and the clusters: 0 is chance, 1 the same partition.

    Utterances from one speaker share the accent and, mostly, the cluster. With few speakers, even random clusters
    therefore seem to follow the accent. If speakers are given, chance is the information left after each speaker
    takes the values of another (Vinh, Epps and Bailey, "Information Theoretic Measures for Clusterings Comparison",
    2010, section 4, with this model of randomness in place of theirs).
    """
    from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score

    if speakers_N is None or len(np.unique(speakers_N)) < 2:
        return float(adjusted_mutual_info_score(codes_N, clusters_N))
    _, speaker_N, counts_S = np.unique(speakers_N, return_inverse=True, return_counts=True)
    by_speaker_N = np.argsort(speaker_N, kind="stable")
    codes_N, clusters_N = codes_N[by_speaker_N], clusters_N[by_speaker_N]
    random = np.random.default_rng(0)
    by_chance = np.mean(
        [mutual_info_score(swapped(codes_N, counts_S, random), clusters_N) for _ in range(NUM_PERMUTATIONS)]
    )
    most = (mutual_info_score(codes_N, codes_N) + mutual_info_score(clusters_N, clusters_N)) / 2  # entropies
    found = mutual_info_score(codes_N, clusters_N)
    return float((found - by_chance) / max(most - by_chance, 1e-9))


def swapped(codes_N: np.ndarray, counts_S: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Give each speaker the values of another, repeated or cut to the number of utterances.

    Args:
        codes_N: Sorted by speaker.
        counts_S: Utterances per speaker.
    """
    starts_S = np.cumsum(counts_S) - counts_S
    place_N = np.arange(len(codes_N)) - np.repeat(starts_S, counts_S)
    giver_N = np.repeat(random.permutation(len(counts_S)), counts_S)
    return codes_N[starts_S[giver_N] + place_N % counts_S[giver_N]]


class Verdict(NamedTuple):
    """Verdict on the clusters, for a reader."""

    sentence: str
    is_warning: bool


def verdict(associations: Sequence[Association]) -> Verdict:
    """One plain sentence; a warning if the clusters follow a nuisance most.

    Bookkeeping fields are skipped.
    """
    associations = [association for association in associations if not association.is_bookkeeping]
    if not associations:
        return Verdict("Nothing is known of the utterances that the clusters could be compared with.", False)
    best, *others = sorted(associations, key=lambda association: -association.ami)
    if best.ami < NOTHING:
        names = ", ".join(association.name for association in associations)
        return Verdict(f"The clusters follow nothing that is known of the utterances ({names}).", False)
    if not best.is_nuisance:
        then = f"; next is {others[0].name} ({others[0].ami:.2f})" if others and others[0].ami >= NOTHING else ""
        return Verdict(
            f"The clusters follow {best.name} most (adjusted mutual information {best.ami:.2f}){then}.", False
        )
    voice = next((association for association in others if not association.is_nuisance), None)
    than = f"any field of the manifest ({voice.name}: {voice.ami:.2f})" if voice else "anything else that is known"
    return Verdict(
        f"The clusters follow {best.name} ({best.ami:.2f}) more than {than}: they may be recordings rather than"
        f" voices. Look at the tables below, and compare with --residualise {best.name}.",
        True,
    )


def _as_categories(values: Sequence[str | float | None]) -> tuple[list[str | None], list[str]]:
    """The values as texts, None if unknown, and the sorted texts."""
    known = [value for value in values if value is not None and value == value and value != ""]
    is_number = bool(known) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    if is_number and len(set(known)) > 8:
        return _binned(np.array([np.nan if value in (None, "") else float(value) for value in values]))
    texts = [None if value is None or value != value or value == "" else str(value) for value in values]
    order = sorted(set(known)) if is_number else sorted({str(value) for value in known})
    return texts, [str(value) for value in order]


def _binned(numbers_N: np.ndarray) -> tuple[list[str | None], list[str]]:
    edges = np.unique(np.nanquantile(numbers_N, np.linspace(0, 1, NUM_BINS + 1)))
    names = [f"{_short(low)} to {_short(high)}" for low, high in pairwise(edges)]
    bins_N = np.clip(np.searchsorted(edges, numbers_N, side="right") - 1, 0, len(names) - 1)
    texts = [None if np.isnan(number) else names[bin_] for number, bin_ in zip(numbers_N, bins_N, strict=True)]
    return texts, [name for name in dict.fromkeys(names) if name in set(texts)]


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def _counts(clusters_N: np.ndarray, codes_N: np.ndarray, labels_N: np.ndarray, num_values: int) -> np.ndarray:
    rows_N = np.where(clusters_N >= 0, clusters_N, labels_N.max(initial=-1) + 1)
    num_rows = int(labels_N.max(initial=-1)) + 1 + int((labels_N < 0).any())
    counts_CV = np.zeros((num_rows, num_values), dtype=np.int64)
    np.add.at(counts_CV, (rows_N, codes_N), 1)
    return counts_CV
