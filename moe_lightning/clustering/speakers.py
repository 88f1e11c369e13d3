"""Utterances moved towards the mean of their speaker: what a person says goes, how they say it stays.

Most of what two embeddings of one speaker differ in is the sentence and its length. A population is a
property of speakers, so the mean of a speaker's utterances shows it more clearly than any of them.
The speaker's name is used, and nothing of which group the speaker is of.
"""

from collections.abc import Sequence

import numpy as np

from moe_lightning.clustering.num_experts import MOST_EXPERTS
from moe_lightning.clustering.settings import ClusteringSettings
from moe_lightning.store.embedding_store import EmbeddingStore

AUTO_SHARE = 0.8
"""Of the way to the mean; what is left keeps utterances of a speaker apart (benchmarks/README.md)."""
SPEAKERS_PER_EXPERT = 4
"""With fewer, clusters would be single speakers, which nobody new belongs to."""


def choose_share(settings: ClusteringSettings, training_speakers: Sequence[str]) -> float:
    """How far utterances move: what was asked for, or 0.8 where training has four speakers an expert."""
    if settings.pool_speakers is not None:
        return settings.pool_speakers
    num_speakers = len(set(training_speakers) - {""})
    is_pooling = num_speakers < len(training_speakers)  # a speaker for each utterance names nobody
    enough = SPEAKERS_PER_EXPERT * (settings.num_experts or MOST_EXPERTS)
    return AUTO_SHARE if is_pooling and num_speakers >= enough else 0.0


def pooled_in_words(num_speakers: int, share: float) -> str:
    """What to tell the user."""
    return (
        f"each utterance was moved {share:g} of the way to the mean of its speaker ({num_speakers} speakers);"
        " --pool-speakers 0 clusters utterances as they are"
    )


def speakers_of(store: EmbeddingStore) -> list[str]:
    """The speaker of each row, another in each split; "" where the store names none."""
    return [f"{entry.split}/{entry.contributor_id}" if entry.contributor_id else "" for entry in store.entries]


def towards_speakers(embeddings_ND: np.ndarray, speakers: Sequence[str], share: float) -> np.ndarray:
    """Each row moved ``share`` of the way to the mean of its speaker's rows, (N, D); "" is nobody and stays.

    Args:
        speakers: Of each row. Rows that must not influence each other, as those of two splits, need
            different names.
        share: 0 leaves the rows as they are, 1 makes the rows of a speaker equal.
    """
    if share == 0:
        return embeddings_ND
    names, speaker_N = np.unique(np.array(speakers), return_inverse=True)
    means_ND = speaker_means(embeddings_ND, speakers)[speaker_N]
    moved_ND = embeddings_ND + share * (means_ND - embeddings_ND)
    moved_ND[(names == "")[speaker_N]] = embeddings_ND[(names == "")[speaker_N]]
    return moved_ND.astype(embeddings_ND.dtype)  # which also hides in which order the rows were summed


def speaker_weights(speakers: Sequence[str]) -> np.ndarray:
    """How much each utterance counts among those of all speakers, (N,): a speaker by the root of how many are theirs.

    By utterances alone, four readers of many strings of digits took four of eight clusters beside 446 readers
    of few sentences; by speakers alone, whom there is most to learn of would hardly count.
    """
    names, speaker_N, counts_S = np.unique(np.array(speakers), return_inverse=True, return_counts=True)
    counts_S = np.where(names == "", 1, counts_S)  # nobody in particular
    return np.asarray(1 / np.sqrt(counts_S[speaker_N]))


def speaker_means(rows_ND: np.ndarray, speakers: Sequence[str]) -> np.ndarray:
    """Mean of each speaker's rows, (S, D) float64, in the order of the names."""
    _, speaker_N, counts_S = np.unique(np.array(speakers), return_inverse=True, return_counts=True)
    sums_SD = np.zeros((len(counts_S), rows_ND.shape[1]))
    np.add.at(sums_SD, speaker_N, rows_ND.astype(np.float64))
    return sums_SD / counts_S[:, None]
