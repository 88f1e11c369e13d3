"""Loaders of audio with soft labels and embeddings, for the stages that train on speech."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from moe_lightning.data.augmentation import Augmentation
from moe_lightning.data.batches import AudioDataset, AudioItem, BatchPlan, SpeechBatch, pad_waveforms
from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.data.loader import FixedLoader, ResumableLoader
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.window import REAL
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import RunInputs, read_split


class ExpertChoice(NamedTuple):
    """Selection and grouping of utterances by their experts."""

    group: bool = False
    """Put utterances with the same likeliest expert into a batch."""
    expert: int | None = None
    """Keep only utterances assigned to it, with a weight over 0."""
    num_assigned: int | None = 1
    """Experts assigned to each utterance, likeliest first; None for all."""

    def rows(self, soft_labels_NE: np.ndarray) -> np.ndarray:
        """Rows of the selected utterances."""
        if self.expert is None:
            return np.arange(len(soft_labels_NE))
        ranked_NE = np.argsort(-soft_labels_NE, axis=1, kind="stable")
        is_assigned_N = (ranked_NE[:, : self.num_assigned] == self.expert).any(axis=1)
        return np.flatnonzero(is_assigned_N & (soft_labels_NE[:, self.expert] > 0))


ALL_UTTERANCES = ExpertChoice()


@dataclass(frozen=True)
class SpeechLoaders:
    """Makes the loaders of a run's splits.

    Args:
        batch_size: Utterances per batch on one device.
        num_workers: Processes that read audio; 0 reads in the training process.
        seed: Seed for the order of utterances.
        percent: Share of the train split that is used, drawn by seed.
        max_seconds: Maximum cost of a batch, counted as in `BatchPlan`; None leaves it to ``batch_size``.
        augmentation: Augmentation of the train split.
        choice: Selection of utterances by their experts.
        window: Minimum cost of an utterance in seconds.
        with_frames: Add the stored encoder frames to batches, for a gate that reads them.
    """

    run: RunDir
    inputs: RunInputs
    batch_size: int
    num_workers: int = 0
    seed: int = 42
    percent: float = 100.0
    max_seconds: float | None = None
    augmentation: Augmentation | None = None
    choice: ExpertChoice = ALL_UTTERANCES
    window: float = REAL
    with_frames: bool = False

    def train(self, rank: int = 0, num_ranks: int = 1) -> ResumableLoader:
        """Batches of the train split, in a new order every epoch."""
        rows, utterances = self._chosen("train")
        return ResumableLoader(
            AudioDataset(utterances, self.augmentation, rows),
            self._plan(utterances),
            self._collate(utterances),
            num_workers=self.num_workers,
            rank=rank,
            num_ranks=num_ranks,
        )

    def fixed(self, split: str, rank: int = 0, num_ranks: int = 1) -> FixedLoader:
        """Batches of a split for scoring, each utterance once over all ranks."""
        _, utterances = self._chosen(split)
        batches = self._plan(utterances).epoch(0, rank, num_ranks)
        return FixedLoader(AudioDataset(utterances), batches, self._collate(utterances), self.num_workers)

    def utterances(self, split: str) -> list[Utterance]:
        """A split's utterances; for train only the used share."""
        utterances = read_split(self.run, split)
        return _share(utterances, self.percent, self.seed) if split == "train" else utterances

    def _plan(self, utterances: Sequence[Utterance]) -> BatchPlan:
        durations_N = [max(utterance.duration, self.window) for utterance in utterances]
        groups_N = self._soft_labels(utterances).argmax(axis=1) if self.choice.group else None
        return BatchPlan(durations_N, self.batch_size, self.seed, self.max_seconds, groups_N=groups_N)

    def _chosen(self, split: str) -> tuple[list[int], list[Utterance]]:
        """Rows of the selected utterances in the split, and the utterances."""
        utterances = self.utterances(split)
        rows = list(map(int, self.choice.rows(self._soft_labels(utterances))))
        if utterances and not rows:
            raise InputError(
                "labels.missing",
                f"no {split} utterance is assigned to expert {self.choice.expert}, so it cannot be trained alone;"
                " train all experts in one job (no data.expert)",
                self.choice.expert,
            )
        return rows, [utterances[row] for row in rows]

    def _soft_labels(self, utterances: Sequence[Utterance]) -> np.ndarray:
        return self.inputs.soft_labels.of([utterance.id for utterance in utterances])

    def _collate(self, utterances: Sequence[Utterance]) -> "SpeechCollate":
        ids = [utterance.id for utterance in utterances]
        store = self.inputs.store
        if self.with_frames:
            require_frames(store)
        return SpeechCollate(self.inputs.soft_labels.of(ids), store.of(ids), store if self.with_frames else None)


@dataclass(frozen=True)
class SpeechCollate:
    """Collate dataset items into one padded batch with soft labels and embeddings."""

    soft_labels_NE: np.ndarray
    embeddings_ND: np.ndarray
    frames_store: EmbeddingStore | None = None
    """Store of the encoder frames, if batches need them."""

    def __call__(self, items: list[AudioItem]) -> SpeechBatch:
        rows = [item.row for item in items]
        waveforms = pad_waveforms([item.waveform_L for item in items])
        ids = [item.id for item in items]
        frames = stored_frames(self.frames_store, ids) if self.frames_store else (None, None)
        return SpeechBatch(
            ids=ids,
            waveforms_BL=waveforms.waveforms_BL,
            num_samples_B=waveforms.num_samples_B,
            texts=[item.text for item in items],
            languages=[item.language for item in items],
            soft_labels_BE=torch.from_numpy(self.soft_labels_NE[rows]),
            embeddings_BD=torch.from_numpy(self.embeddings_ND[rows]),
            frames_BTD=frames[0],
            num_frames_B=frames[1],
        )


def _share(utterances: list[Utterance], percent: float, seed: int) -> list[Utterance]:
    """A seeded share of the utterances, at least one, in their order."""
    if not 0 < percent <= 100:
        raise InputError("setting.range", f"percent must be in (0, 100], got {percent}", f"percent={percent}")
    num_kept = max(1, round(len(utterances) * percent / 100))
    rows = np.random.default_rng(seed).permutation(len(utterances))[:num_kept]
    return [utterances[row] for row in sorted(rows)]


def stored_frames(store: EmbeddingStore, ids: Sequence[str]) -> Frames:
    """Frames of utterances, padded with zeros, in their stored precision.

    Raises:
        InputError: The store has no frames for an utterance.
    """
    frames = [torch.from_numpy(np.array(store.frames_of(id_))) for id_ in ids]
    values_BTD = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
    return Frames(values_BTD, torch.tensor([len(frames_TD) for frames_TD in frames]))


def require_frames(store: EmbeddingStore) -> None:
    """Raise an InputError if a store has no frames, before any batch is made."""
    if not store.has_frames:
        raise InputError(
            "embeddings.no-frames",
            f"the store {store.folder} has no encoder frames, which gate attentive reads under gate_input cached; run"
            " `moe-lightning embed --store frames` in another --run-dir, or take gate_input live",
            store.folder,
        )
