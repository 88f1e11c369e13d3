"""Recordings of a manifest, as the benchmarks read them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moe_lightning.data.audio import read_file
from moe_lightning.data.normaliser import Normaliser
from moe_lightning.evaluation.alignment import count_words

Row = dict[str, Any]
"""A line of a manifest, with the path of its recording as ``file``."""


def read_rows(manifest: Path) -> list[Row]:
    """Lines of a JSONL manifest; paths are relative to its folder."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    return [{**row, "file": manifest.parent / row["audio_filepath"]} for row in rows]


def waveforms(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """16 kHz waveforms, padded, (B, L), and their lengths, (B,)."""
    read = [torch.from_numpy(read_file(row["file"])) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(read, batch_first=True), torch.tensor([len(one) for one in read])


def word_error_rate(rows: Sequence[Row], texts: Sequence[str]) -> float:
    """In percent, by the normaliser of each row's language."""
    normalise = Normaliser("auto")
    references = [normalise(row["text"], row["language"]) for row in rows]
    hypotheses = [normalise(text, row["language"]) for text, row in zip(texts, rows, strict=True)]
    counts = count_words(references, hypotheses)
    return 100 * float(counts.errors_N.sum() / counts.lengths_N.sum())
