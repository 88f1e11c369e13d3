"""The bare backbone is transformers' Whisper, token for token, on real weights and real recordings.

``MOE_LIGHTNING_WHISPER`` names folders of real weights, joined by the system's path separator; an English-only one
is tested on the English recordings. All test recordings take an hour for base on two cores; ``MOE_LIGHTNING_SHARE=0.1``
takes every tenth.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from moe_lightning.backbone.loading import load_backbone
from moe_lightning.backbone.speech import DecodeOptions, SpeechBackbone
from tests.recordings import CORPUS

FOLDERS = [Path(folder) for folder in os.environ.get("MOE_LIGHTNING_WHISPER", "").split(os.pathsep) if folder]
EXACT = DecodeOptions(guard=False)
Row = dict[str, Any]

pytestmark = [
    pytest.mark.skipif(not FOLDERS, reason="MOE_LIGHTNING_WHISPER names no folder of real Whisper weights"),
    pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of recordings is not on this machine"),
    pytest.mark.timeout(3 * 3600),
]


@pytest.fixture(scope="module", params=FOLDERS or [Path("none")], ids=lambda folder: folder.name)
def backbone(request: pytest.FixtureRequest) -> SpeechBackbone:
    return load_backbone(str(request.param)).eval()


def test_greedy_transcripts_are_those_of_transformers_token_for_token(backbone: SpeechBackbone) -> None:
    rows = recordings(backbone)
    started = time.perf_counter()
    different = {}
    for batch in batches(rows, 16):
        found = transcribe(backbone, batch)
        expected = generate(backbone, batch)
        different |= {
            row["id"]: (backbone.tokens.text(own), backbone.tokens.text(theirs))
            for row, own, theirs in zip(batch, found, expected, strict=True)
            if own != theirs
        }
    print(f"{len(rows)} recordings, {len(different)} different, {time.perf_counter() - started:.0f} s")
    assert different == {}


@pytest.mark.parametrize("size", [1, 5])
def test_the_company_in_a_batch_changes_no_token(backbone: SpeechBackbone, size: int) -> None:
    rows = recordings(backbone)[:: max(1, len(recordings(backbone)) // 20)]
    together = dict(zip(map(name, rows), transcribe(backbone, rows), strict=True))
    shortest_first = sorted(rows, key=lambda row: row["duration"])
    for batch in batches(shortest_first, size):
        for row, found in zip(batch, transcribe(backbone, batch), strict=True):
            assert found == together[name(row)], name(row)


def test_the_loss_is_that_of_transformers_on_the_same_labels(backbone: SpeechBackbone) -> None:
    rows = recordings(backbone)[:: max(1, len(recordings(backbone)) // 6)]
    targets = backbone.targets([row["text"] for row in rows], [row["language"] for row in rows])
    with torch.no_grad():
        features = backbone.features(*waveforms(rows))
        loss = backbone.token_loss(backbone.encode(features), targets).a_token
        expected = of_transformers(backbone.model.config.name_or_path)[0](
            features.values_BMT, decoder_input_ids=targets.inputs_BS, labels=targets.labels_BS
        ).loss
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_the_language_detected_is_the_one_that_transformers_detects(backbone: SpeechBackbone) -> None:
    if not backbone.detects_languages:
        pytest.skip("an English-only model detects no language")
    rows = recordings(backbone)[:: max(1, len(recordings(backbone)) // 30)]
    with torch.no_grad():
        features = backbone.features(*waveforms(rows))
        found = [one.language for one in backbone.detect_languages(backbone.encode(features))]
        expected_B = of_transformers(backbone.model.config.name_or_path)[0].detect_language(features.values_BMT)
    ids = backbone.model.generation_config.lang_to_id
    assert [ids[f"<|{language}|>"] for language in found] == expected_B.tolist()


def recordings(backbone: SpeechBackbone) -> list[Row]:
    """Test recordings in languages that the model writes, or a share of them."""
    rows = [json.loads(line) for line in (CORPUS / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    if not backbone.detects_languages:
        rows = [row for row in rows if row["language"] == "en"]
    step = max(1, round(1 / float(os.environ.get("MOE_LIGHTNING_SHARE", "1"))))
    return sorted(rows, key=lambda row: (row["language"], row["id"]))[::step]


def batches(rows: Sequence[Row], size: int) -> Iterator[list[Row]]:
    """Neighbours of one language: transformers takes one language a call."""
    for language in dict.fromkeys(row["language"] for row in rows):
        own = [row for row in rows if row["language"] == language]
        yield from (own[start : start + size] for start in range(0, len(own), size))


def waveforms(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    read = [torch.from_numpy(soundfile.read(CORPUS / row["audio_filepath"], dtype="float32")[0]) for row in rows]
    lengths_B = torch.tensor([len(waveform_L) for waveform_L in read])
    return torch.nn.utils.rnn.pad_sequence(read, batch_first=True), lengths_B


@torch.no_grad()
def transcribe(backbone: SpeechBackbone, rows: Sequence[Row]) -> list[list[int]]:
    frames = backbone.encode(backbone.features(*waveforms(rows)))
    return backbone.decode(frames, [row["language"] for row in rows], options=EXACT).tokens


@torch.no_grad()
def generate(backbone: SpeechBackbone, rows: Sequence[Row]) -> list[list[int]]:
    """Tokens of transformers itself, greedily, without the special ones."""
    model, extractor = of_transformers(backbone.model.config.name_or_path)
    waveforms_BL, lengths_B = waveforms(rows)
    read = [row_L[:length].numpy() for row_L, length in zip(waveforms_BL, lengths_B.tolist(), strict=True)]
    features = extractor(read, sampling_rate=16_000, return_tensors="pt").input_features
    asked = {"language": rows[0]["language"], "task": "transcribe"} if backbone.detects_languages else {}
    found = model.generate(features, do_sample=False, num_beams=1, **asked).tolist()
    return [[token for token in row if token < backbone.tokens.end] for row in found]


@lru_cache(maxsize=1)
def of_transformers(folder: str) -> tuple[WhisperForConditionalGeneration, WhisperFeatureExtractor]:
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    return model, WhisperFeatureExtractor.from_pretrained(folder)


def name(row: Row) -> str:
    return str(row["id"])
