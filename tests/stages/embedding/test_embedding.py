"""The embedding stage against one utterance at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch

from moe_lightning.data.audio import read_audio
from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.utterance import SPLITS, Utterance
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.models.backbones.pooling import pool
from moe_lightning.models.backbones.whisper import Frames, WhisperBackbone
from moe_lightning.run.folder import RunDir


def embedded(run: RunDir, model: Path, *flags: str) -> EmbeddingStore:
    embed(["--run-dir", str(run.path), "--whisper-model", str(model), "--num-workers", "0", *flags])
    return EmbeddingStore.load(run.embedding_dir(str(model)))


def frames_alone(backbone: WhisperBackbone, utterance: Utterance) -> torch.Tensor:
    """Encoder frames of an utterance that is a batch of its own, (T, D)."""
    waveform_L = torch.from_numpy(read_audio(utterance))
    with torch.no_grad():
        frames = backbone.encode(backbone.features(waveform_L[None], torch.tensor([len(waveform_L)])))
    assert frames.values_BTD.shape[1] == -(-len(waveform_L) // 320)
    return frames.values_BTD[0]


def utterances(run: RunDir) -> list[tuple[str, Utterance]]:
    return [(split, utterance) for split in SPLITS for utterance in read_manifest(run.manifest_file(split))]


@pytest.mark.parametrize("pooling", ["mean", "mean+std"])
def test_the_store_is_the_slow_loop_over_real_frames(pooling: str, corpus_run: RunDir, tiny_whisper: Path) -> None:
    store = embedded(corpus_run, tiny_whisper, "--pooling", pooling, "--batch-size", "7")
    backbone = WhisperBackbone.load(str(tiny_whisper)).eval()
    for row, (_, utterance) in enumerate(utterances(corpus_run)):
        frames_TD = frames_alone(backbone, utterance).double()
        expected_D = frames_TD.mean(dim=0)
        if pooling == "mean+std":
            expected_D = torch.cat([expected_D, frames_TD.std(dim=0, correction=0)])
        np.testing.assert_allclose(store.embeddings_ND[row], expected_D.numpy(), atol=1e-5)


def test_the_mapping_has_the_guides_fields_and_the_manifests_utterances(clustered_run: Path) -> None:
    run = RunDir(clustered_run)
    store = EmbeddingStore.load(run.embedding_dirs()[0])
    expected = utterances(run)
    assert store.ids == tuple(utterance.id for _, utterance in expected)
    assert store.splits_N.tolist() == [split for split, _ in expected]
    for entry, (_, utterance) in zip(store.entries, expected, strict=True):
        assert entry.contributor_id == utterance.speaker
        assert entry.wav_filename == utterance.audio_file.name
        assert entry.wav_path == str(utterance.audio_file)
        assert (run.embedding_dirs()[0] / entry.embedding_path).exists()


def test_another_batch_size_makes_the_same_store(corpus_run: RunDir, clustered_run: Path, tiny_whisper: Path) -> None:
    one_by_one = embedded(corpus_run, tiny_whisper, "--batch-size", "1")
    together = EmbeddingStore.load(RunDir(clustered_run).embedding_dirs()[0])
    np.testing.assert_allclose(one_by_one.embeddings_ND, together.embeddings_ND, atol=1e-5)


def test_flattening_needs_the_fixed_window(
    corpus_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        embedded(corpus_run, tiny_whisper, "--pooling", "flatten")
    assert "add --window 30" in capsys.readouterr().err
    assert not corpus_run.embedding_dir(str(tiny_whisper)).exists()
    store = embedded(corpus_run, tiny_whisper, "--pooling", "flatten", "--window", "30")
    assert store.embeddings_ND.shape == (36, 1500 * 32)
    assert store.info is not None
    assert (store.info.pooling, store.info.window) == ("flatten", 30.0)


def test_what_lies_behind_an_utterances_end_is_not_pooled() -> None:
    values_BTD = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    frames = Frames(values_BTD, torch.tensor([6, 2]))
    spoilt_BTD = values_BTD.clone()
    spoilt_BTD[1, 2:] = 1e6
    for pooling in ("mean", "mean+std", "none"):
        found = pool(frames, pooling)
        assert torch.equal(found, pool(Frames(spoilt_BTD, frames.num_frames_B), pooling))
        torch.testing.assert_close(found[1, :3], values_BTD[1, :2].mean(dim=0))


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pooling must be one of mean.*got 'max'"):
        pool(Frames(torch.zeros(1, 1, 1), torch.ones(1, dtype=torch.long)), "max")
