"""Which layers an embedding is of, and the frames behind it: against transformers, one utterance at a time."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperModel

from moe_lightning.clustering.__main__ import main as cluster
from moe_lightning.clustering.stage import embeddings_of
from moe_lightning.data.audio import read_audio
from moe_lightning.data.embedding_store import EmbeddingStore, StoreInfo
from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.utterance import SPLITS, Utterance
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.models.backbones.base import Frames
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.backbones.pooling import layers_text, parse_layers, pool
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import check_run_model
from moe_lightning.run.pipeline import main as pipeline
from tests.ctc_models import write_ctc
from tests.refusals import Refusals, fit_arguments, refuses
from tests.stage_runs import fit


def embedded(run: RunDir, model: Path, *flags: str) -> EmbeddingStore:
    embed(["--run-dir", str(run.path), "--whisper-model", str(model), "--num-workers", "0", *flags])
    return EmbeddingStore.load(run.embedding_dir(str(model)))


def utterances(run: RunDir) -> list[Utterance]:
    return [utterance for split in SPLITS for utterance in read_manifest(run.manifest_file(split))]


def test_each_layer_is_the_hidden_state_of_transformers(corpus_run: RunDir, tiny_whisper: Path) -> None:
    store = embedded(corpus_run, tiny_whisper, "--embedding-layer", "0,1,last", "--window", "30")
    model = WhisperModel.from_pretrained(tiny_whisper).eval()
    backbone = load_backbone(str(tiny_whisper), "30")
    for utterance in utterances(corpus_run)[::9]:
        waveform_L = torch.from_numpy(read_audio(utterance))
        features = backbone.features(waveform_L[None], torch.tensor([len(waveform_L)]))
        with torch.no_grad():
            output = model.encoder(features.values_BMT, output_hidden_states=True)
        states = [output.hidden_states[0], output.hidden_states[1], output.last_hidden_state]
        num_real = -(-len(waveform_L) // 320)  # the silence of the window is read, and not pooled
        expected_D = torch.cat([state[0, :num_real].mean(dim=0) for state in states])
        np.testing.assert_allclose(store.of([utterance.id])[0], expected_D.numpy(), atol=1e-5)


def test_the_store_names_the_parts_that_it_is_joined_of(corpus_run: RunDir, tiny_whisper: Path) -> None:
    store = embedded(corpus_run, tiny_whisper, "--embedding-layer", "2, 1", "--pooling", "mean+std")
    assert store.info is not None
    assert store.info.embedding_layer == "1,last"
    assert store.info.parts == ("layer 1 mean", "layer last mean", "layer 1 std", "layer last std")
    assert store.embeddings_ND.shape == (36, len(store.info.parts) * 32)
    written = json.loads((corpus_run.embedding_dir(str(tiny_whisper)) / "store.json").read_text())
    assert written["parts"] == list(store.info.parts)


@pytest.mark.parametrize("text", ["7", "-1", "first", "1,1"])
def test_a_layer_that_there_is_not_or_twice_is_refused(text: str) -> None:
    with refuses("setting.choice", f"--embedding-layer {text}"):
        parse_layers(text, 6)


def test_layers_have_one_notation() -> None:
    assert layers_text(parse_layers("last, 4,2", 6), 6) == layers_text(parse_layers("2,4,6", 6), 6) == "2,4,last"


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 5e-3), ("float32", 1e-5)])
def test_stored_frames_are_those_of_the_utterance_alone(
    dtype: str, tolerance: float, corpus_run: RunDir, tiny_whisper: Path
) -> None:
    flags = ["--store", "frames", "--frames-dtype", dtype, "--batch-size", "6", "--shard-size", "12"]
    store = embedded(corpus_run, tiny_whisper, *flags, "--embedding-layer", "1,last", "--pooling", "mean+std")
    assert store.has_frames
    assert len(list(corpus_run.embedding_dir(str(tiny_whisper)).glob("frames_*.npy"))) == 3
    backbone = load_backbone(str(tiny_whisper)).eval()
    for utterance in utterances(corpus_run)[::5]:
        waveform_L = torch.from_numpy(read_audio(utterance))
        with torch.no_grad():
            features = backbone.features(waveform_L[None], torch.tensor([len(waveform_L)]))
            expected = [backbone.encode(features, num_layers).values_BTD[0] for num_layers in (1, None)]
        frames_TD = store.frames_of(utterance.id)
        assert isinstance(frames_TD, np.memmap)
        assert frames_TD.dtype == dtype
        np.testing.assert_allclose(frames_TD, torch.cat(expected, dim=1).numpy(), atol=tolerance)
        pooled_D = pool(Frames(torch.tensor(frames_TD)[None], torch.tensor([len(frames_TD)])), "mean+std")[0]
        np.testing.assert_allclose(store.of([utterance.id])[0], pooled_D.numpy(), atol=tolerance)


def test_frames_that_are_missing_or_cut_off_are_refused(
    corpus_run: RunDir, clustered_run: Path, tiny_whisper: Path
) -> None:
    pooled = EmbeddingStore.load(RunDir(clustered_run).embedding_dirs()[0])
    assert not pooled.has_frames
    with refuses("embeddings.no-frames", "train_0"):
        pooled.frames_of(pooled.ids[0])
    store = embedded(corpus_run, tiny_whisper, "--store", "frames")
    shard = corpus_run.embedding_dir(str(tiny_whisper)) / "frames_00000.npy"
    shard.write_bytes(shard.read_bytes()[:-64])
    with refuses("file.unreadable", "frames_00000.npy"):
        store.frames_of(store.ids[0])


def test_half_precision_embeds_nearly_the_same_and_is_recorded(
    corpus_run: RunDir, clustered_run: Path, tiny_whisper: Path
) -> None:
    store = embedded(corpus_run, tiny_whisper, "--precision", "bf16-mixed", "--accelerator", "cpu")
    whole = EmbeddingStore.load(RunDir(clustered_run).embedding_dirs()[0])
    assert store.info is not None
    assert store.info.precision == "bf16-mixed"
    assert not np.array_equal(store.embeddings_ND, whole.embeddings_ND)
    np.testing.assert_allclose(store.embeddings_ND, whole.embeddings_ND, atol=0.02)


def test_a_precision_that_would_round_the_audio_is_refused(
    corpus_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run-dir", corpus_run.path, "--whisper-model", tiny_whisper, "--precision", "bf16-true"]
    assert "use bf16-mixed" in Refusals(capsys)("embedding.__main__", *arguments)


def test_new_audio_is_embedded_as_the_store_was(corpus_run: RunDir, tiny_whisper: Path) -> None:
    store = embedded(corpus_run, tiny_whisper, "--embedding-layer", "1,last", "--pooling", "mean+std")
    spectral = ["--algorithm", "spectral", "--num-experts", "2", "--plot", "none", "--no-report"]
    folder, output = corpus_run.embedding_dir(str(tiny_whisper)), corpus_run.stage_dir("clustering")
    cluster(["--embedding-dir", str(folder), "--output-dir", str(output), *spectral])
    for stage in ("gating", "experts", "moe"):
        fit(stage, corpus_run.path, tiny_whisper, "--trainer.max_epochs", "1")
    mixture = MixtureASR.load(corpus_run.mixture_files)
    assert mixture.config.embedding_layer == "1,last"
    for utterance in utterances(corpus_run)[::12]:
        waveform_L = torch.from_numpy(read_audio(utterance))
        found_BD = mixture.gate.pool(mixture.read_audio(waveform_L[None], torch.tensor([len(waveform_L)])).readable)
        np.testing.assert_allclose(found_BD[0].numpy(), store.of([utterance.id])[0], atol=1e-4)


def test_the_clustering_pools_stored_frames_as_it_is_asked_to(corpus_run: RunDir, tiny_whisper: Path) -> None:
    frames = ["--store", "frames", "--frames-dtype", "float32", "--window", "30"]
    store = embedded(corpus_run, tiny_whisper, *frames)
    frames_of_all = [store.frames_of(id_) for id_ in store.ids]
    assert len({len(frames_TD) for frames_TD in frames_of_all}) > 1  # real frames alone are kept
    mean_ND = np.stack([frames_TD.mean(axis=0) for frames_TD in frames_of_all])
    std_ND = np.stack([frames_TD.std(axis=0) for frames_TD in frames_of_all])
    found = {name: embeddings_of(store, {"pooling": "mean", "pool_stats": name}) for name in ("mean", "mean+std")}
    np.testing.assert_allclose(found["mean"], mean_ND, atol=1e-5)
    np.testing.assert_allclose(found["mean+std"], np.concatenate([mean_ND, std_ND], axis=1), atol=1e-5)


def test_frames_of_different_lengths_cannot_be_flattened(corpus_run: RunDir, tiny_whisper: Path) -> None:
    store = embedded(corpus_run, tiny_whisper, "--store", "frames")
    with refuses("setting.conflict", "--pooling flatten"):
        embeddings_of(store, {"pooling": "flatten", "pool_stats": None})


def test_a_clustering_refuses_embeddings_of_another_layer(
    clustered_run: Path, corpus_run: RunDir, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded(corpus_run, tiny_whisper, "--embedding-layer", "1")
    store = corpus_run.embedding_dir(str(tiny_whisper))
    predict = ["predict", "--run-dir", clustered_run, "--embedding-dir", store, "--output-dir", tmp_path / "labels"]
    words = Refusals(capsys)("clustering.__main__", *predict)
    assert "has the embedding_layer '1', the clustering was made on 'last'" in words


def test_any_stage_refuses_embeddings_of_other_weights_of_the_same_name(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = RunDir(tmp_path / "run"), tmp_path / "model"
    shutil.copytree(clustered_run, run.path)
    shutil.copytree(tiny_whisper, model)
    check_run_model(run, str(model))  # a folder that was moved is the same model
    info = StoreInfo.read(run.embedding_dirs()[0])
    assert info is not None
    replace(info, revision="sha256:other").write(run.embedding_dirs()[0])
    for stage in ("gating", "experts", "moe"):
        words = Refusals(capsys)(f"{stage}.__main__", *fit_arguments(run, stage, tiny_whisper))
        assert "the embeddings are of other weights of" in words
        assert "their revision is sha256:other" in words


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "wav2vec2-bert"])
def test_a_ctc_encoder_embeds_as_one_utterance_at_a_time(kind: str, corpus_run: RunDir, tmp_path: Path) -> None:
    model = write_ctc(tmp_path / "model", kind)
    store = embedded(corpus_run, model, "--embedding-layer", "1,last")
    backbone = load_backbone(str(model)).eval()
    assert store.embeddings_ND.shape == (36, 2 * 32)
    for utterance in utterances(corpus_run)[::9]:
        waveform_L = torch.from_numpy(read_audio(utterance))
        with torch.no_grad():
            features = backbone.features(waveform_L[None], torch.tensor([len(waveform_L)]))
            expected = [backbone.encode(features, num_layers).values_BTD[0].mean(dim=0) for num_layers in (1, None)]
        np.testing.assert_allclose(store.of([utterance.id])[0], torch.cat(expected).numpy(), atol=1e-4)


def test_the_pipeline_hands_the_layers_to_the_embedding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline(["--dry-run", "--run-dir", str(tmp_path), "--embedding-layer", "6,12,last"])
    line = next(line for line in capsys.readouterr().out.splitlines() if "moe_lightning.embedding" in line)
    assert "--embedding-layer 6,12,last" in line
