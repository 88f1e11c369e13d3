"""The bare backbone is transformers' Whisper, token for token, on real weights and real recordings.

All test recordings take an hour for base on two cores; ``MOE_LIGHTNING_SHARE=0.1`` takes every tenth.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from moe_lightning.models.backbones.base import SpeechBackbone
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.backbones.loading import load_backbone
from tests.real_whisper import FOLDERS, NEEDS, Row, batches, recordings, waveforms

EXACT = DecodeOptions(guard=False)

pytestmark = NEEDS


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
