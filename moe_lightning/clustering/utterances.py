"""Utterances of a store: their manifest's fields, and their stored frames as vectors."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from moe_lightning.clustering.nuisance import NUISANCES, measure
from moe_lightning.data.embedding_store import EmbeddingStore, StoreInfo
from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.utterance import SPLITS, Utterance
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.settings.embedding import Pooling


class Vectors(NamedTuple):
    """One vector per utterance, and the matching store info."""

    embeddings: np.ndarray
    """(N, D) float32; (N, T, D) for a folder with one array of frames per utterance."""
    info: StoreInfo | None


def stored_vectors(store: EmbeddingStore, pooling: str, pool_stats: str | None) -> Vectors:
    """Vectors of a store; if it keeps frames and has another pooling, pooled anew from the frames.

    Args:
        pooling: ``flatten`` joins all frames; otherwise ``pool_stats`` decides.
        pool_stats: ``mean``, ``mean+std``, or None for all in the store.

    Raises:
        InputError: ``flatten`` with different numbers of frames.
    """
    wanted: Pooling | None = "flatten" if pooling == "flatten" else "mean+std" if pool_stats == "mean+std" else None
    if not (wanted and store.info and store.has_frames and store.info.pooling != wanted):
        return Vectors(store.embeddings_ND, store.info)
    return Vectors(_pool_frames(store, wanted), replace(store.info, pooling=wanted))


def _pool_frames(store: EmbeddingStore, pooling: Pooling) -> np.ndarray:
    """One utterance after another, so that only one utterance's frames are in memory."""
    lengths = {entry.num_frames for entry in store.entries}
    if pooling == "flatten" and len(lengths) > 1:
        raise InputError(
            "setting.conflict",
            "--pooling flatten needs as many frames of every utterance; embed with --pooling flatten",
            "--pooling flatten",
        )
    return np.stack([_pooled(store.frames_of(id_), pooling) for id_ in store.ids])


def _pooled(frames_TD: np.ndarray, pooling: str) -> np.ndarray:
    frames_TD = frames_TD.astype(np.float32)
    if pooling == "flatten":
        return frames_TD.ravel()
    return np.concatenate([frames_TD.mean(axis=0), frames_TD.std(axis=0)])


def read_utterances(manifest_dir: Path, ids: Sequence[str]) -> list[Utterance]:
    """Utterances with the given ids, in this order, from the folder's train, dev and test manifests.

    Raises:
        MissingInputError: The folder holds no manifest.
        InputError: An utterance is in none of them.
    """
    files = [manifest_dir / f"{split}.jsonl.gz" for split in SPLITS]
    present = [file for file in files if file.exists()]
    if not present:
        raise MissingInputError(
            "file.missing",
            f"{manifest_dir} holds no manifest (train.jsonl.gz ...); name the folder with --manifest-dir",
            manifest_dir,
        )
    by_id = {utterance.id: utterance for file in present for utterance in read_manifest(file)}
    missing = [id_ for id_ in ids if id_ not in by_id]
    if missing:
        raise InputError(
            "corpus.other-utterances",
            f"{len(missing)} of {len(ids)} embedded utterances are in no manifest of {manifest_dir}, the first is"
            f" {missing[0]!r}; embed the corpus of this run again",
            missing[0],
        )
    return [by_id[id_] for id_ in ids]


def field_values(utterances: Sequence[Utterance], field: str) -> list[str | None]:
    """A field per utterance as text, None if missing; ``speaker`` counts as a field.

    Raises:
        InputError: No utterance has it; the message lists the existing fields.
    """
    values = [utterance.speaker if field == "speaker" else utterance.fields.get(field) for utterance in utterances]
    if all(value in (None, "") for value in values):
        known = sorted({name for utterance in utterances for name in utterance.fields} | {"speaker"})
        raise InputError(
            "corpus.no-field",
            f"no training utterance has the field {field!r}; the manifests have {', '.join(known)}",
            field,
        )
    return [None if value in (None, "") else str(value) for value in values]


def nuisance_columns(utterances: Sequence[Utterance], names: Sequence[str]) -> np.ndarray:
    """Measured variables and numeric fields, one per column, (N, J); a gap takes the column's median.

    Raises:
        InputError: A name is neither a measured variable nor a numeric field.
    """
    measured = measure(utterances) if set(names) & set(NUISANCES) else {}
    columns = [measured[name] if name in measured else _numeric_field(utterances, name) for name in names]
    filled = [np.where(np.isfinite(column), column, np.nanmedian(column)) for column in columns]
    return np.stack(filled, axis=1)


def _numeric_field(utterances: Sequence[Utterance], name: str) -> np.ndarray:
    values = [utterance.fields.get(name) for utterance in utterances]
    if all(value is None for value in values) or any(isinstance(value, str) for value in values):
        raise InputError(
            "setting.choice",
            f"--residualise {name}: measured are {', '.join(NUISANCES)}; of fields, only numbers will do",
            f"--residualise {name}",
        )
    return np.array([np.nan if value is None else float(value) for value in values])
