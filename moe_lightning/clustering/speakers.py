"""Speaker-level pooling: each utterance moves towards the mean of its speaker's embeddings.

Two embeddings of one speaker differ mostly in the sentence and its length. A population is a property of speakers, so
a speaker's mean shows it more clearly than any single utterance. Only the speaker's name is used, not the speaker's
group.
"""

from collections.abc import Sequence

import numpy as np

from moe_lightning.clustering.num_experts import MOST_EXPERTS
from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.settings.clustering import ClusteringSettings

AUTO_SHARE = 0.8
"""Relative to the full way to the mean; the rest keeps a speaker's utterances apart (benchmarks/README.md)."""
SPEAKERS_PER_EXPERT = 4
"""With fewer, clusters would be single speakers, and no new speaker belongs to those."""


def choose_share(settings: ClusteringSettings, training_speakers: Sequence[str]) -> float:
    """Pooling share: as requested, or 0.8 if training has four speakers per expert, else 0."""
    if settings.pool_speakers is not None:
        return settings.pool_speakers
    num_speakers = len(set(training_speakers) - {""})
    is_pooling = num_speakers < len(training_speakers)  # one speaker per utterance: the names carry no information
    enough = SPEAKERS_PER_EXPERT * (settings.num_experts or MOST_EXPERTS)
    return AUTO_SHARE if is_pooling and num_speakers >= enough else 0.0


def pooled_in_words(num_speakers: int, share: float) -> str:
    """Note for the user."""
    return (
        f"speaker-level pooling of {num_speakers} speakers, with a weight of {share:g};"
        " --pool-speakers 0 clusters utterances as they are"
    )


def speakers_of(store: EmbeddingStore) -> list[str]:
    """Speaker per row, distinct per split; "" if the store names none."""
    return [f"{entry.split}/{entry.contributor_id}" if entry.contributor_id else "" for entry in store.entries]


def towards_speakers(embeddings_ND: np.ndarray, speakers: Sequence[str], share: float) -> np.ndarray:
    """Move each row by ``share`` towards the mean of its speaker's rows, (N, D); rows with speaker "" stay.

    Args:
        speakers: Speaker per row. Rows that must not influence each other, as in two splits, need different names.
        share: 0 leaves the rows as they are, 1 makes a speaker's rows equal.
    """
    if share == 0:
        return embeddings_ND
    names, speaker_N = np.unique(np.array(speakers), return_inverse=True)
    means_ND = speaker_means(embeddings_ND, speakers)[speaker_N]
    moved_ND = embeddings_ND + share * (means_ND - embeddings_ND)
    moved_ND[(names == "")[speaker_N]] = embeddings_ND[(names == "")[speaker_N]]
    return moved_ND.astype(embeddings_ND.dtype)  # rounding also hides the order of summation


def speaker_weights(speakers: Sequence[str]) -> np.ndarray:
    """Weight per utterance, (N,): a speaker counts by the square root of their number of utterances.

    Weighted by utterance, four readers of many strings of digits took four of eight clusters, beside 446 readers of
    few sentences. Weighted by speaker, the speakers with most training data would hardly count.
    """
    names, speaker_N, counts_S = np.unique(np.array(speakers), return_inverse=True, return_counts=True)
    counts_S = np.where(names == "", 1, counts_S)  # "" is no speaker
    return np.asarray(1 / np.sqrt(counts_S[speaker_N]))


def speaker_means(rows_ND: np.ndarray, speakers: Sequence[str]) -> np.ndarray:
    """Mean of each speaker's rows, (S, D) float64, in the order of the sorted names."""
    _, speaker_N, counts_S = np.unique(np.array(speakers), return_inverse=True, return_counts=True)
    sums_SD = np.zeros((len(counts_S), rows_ND.shape[1]))
    np.add.at(sums_SD, speaker_N, rows_ND.astype(np.float64))
    return sums_SD / counts_S[:, None]
