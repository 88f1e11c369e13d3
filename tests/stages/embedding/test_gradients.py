"""The gradients that are kept beside embeddings, against finite differences and one utterance at a time."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moe_lightning.clustering.__main__ import main as cluster
from moe_lightning.data.audio import read_audio
from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.store_info import GRADIENTS_DIR
from moe_lightning.data.utterance import Utterance
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.embedding.gradients import frame_gradients
from moe_lightning.models.backbones.base import Frames, SpeechBackbone
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.run.folder import RunDir
from moe_lightning.run.pipeline import main as pipeline
from moe_lightning.run.verify import verify
from tests.refusals import only_line, refuses
from tests.stages.embedding.conftest import embed_and_die


def gradients_of(run: RunDir, model: Path, *flags: str) -> EmbeddingStore:
    embed(["--run-dir", str(run.path), "--whisper-model", str(model), "--num-workers", "0", "--gradients", *flags])
    return EmbeddingStore.load(run.embedding_dir(str(model)) / GRADIENTS_DIR)


def frames_alone(backbone: SpeechBackbone, utterance: Utterance) -> Frames:
    """Encoder frames of an utterance that is a batch of its own."""
    waveform_L = torch.from_numpy(read_audio(utterance))
    with torch.no_grad():
        return backbone.encode(backbone.features(waveform_L[None], torch.tensor([len(waveform_L)])))


def loss_a_token(backbone: SpeechBackbone, frames: Frames, utterance: Utterance) -> float:
    with torch.no_grad():
        loss = backbone.token_loss(frames, backbone.targets([utterance.text], [utterance.language]))
    return float(loss.sum_B / loss.num_tokens_B)


@pytest.mark.parametrize("kind", ["whisper", "ctc"])
def test_a_gradient_is_what_a_small_scale_or_shift_of_the_frames_does_to_the_loss(
    kind: str, corpus_run: RunDir, tiny_whisper: Path, tiny_ctc: Path
) -> None:
    backbone = load_backbone(str(tiny_whisper if kind == "whisper" else tiny_ctc)).eval()
    utterance = read_manifest(corpus_run.manifest_file("train"))[0]
    frames = frames_alone(backbone, utterance)
    found_G = frame_gradients(backbone, frames, [utterance.text], [utterance.language])[0]
    size, dim = 1e-2, frames.values_BTD.shape[2]
    assert found_G.shape == (2 * dim,)
    for place in (0, 7):
        unit_D = size * torch.eye(dim)[place]
        scaled = [frames._replace(values_BTD=frames.values_BTD * (1 + sign * unit_D)) for sign in (1, -1)]
        shifted = [frames._replace(values_BTD=frames.values_BTD + sign * unit_D) for sign in (1, -1)]
        for (more, less), found in ((scaled, found_G[place]), (shifted, found_G[dim + place])):
            change = (loss_a_token(backbone, more, utterance) - loss_a_token(backbone, less, utterance)) / (2 * size)
            assert float(found) == pytest.approx(change, abs=2e-4, rel=0.05)


def test_the_store_holds_every_training_utterance_as_if_it_were_alone(corpus_run: RunDir, tiny_whisper: Path) -> None:
    store = gradients_of(corpus_run, tiny_whisper, "--batch-size", "7")
    utterances = read_manifest(corpus_run.manifest_file("train"))
    assert store.ids == tuple(utterance.id for utterance in utterances)
    assert set(store.splits_N) == {"train"}
    backbone = load_backbone(str(tiny_whisper)).eval()
    for row, utterance in enumerate(utterances):
        alone_G = frame_gradients(backbone, frames_alone(backbone, utterance), [utterance.text], [utterance.language])
        np.testing.assert_allclose(store.embeddings_ND[row], alone_G[0].numpy(), atol=1e-5)
    assert np.abs(store.embeddings_ND).max() > 1e-3
    whole = EmbeddingStore.load(corpus_run.embedding_dir(str(tiny_whisper)))
    assert len(whole.ids) == 36


def test_lost_gradients_are_made_again_and_kept_ones_are_not(
    corpus_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = gradients_of(corpus_run, tiny_whisper)
    shards = corpus_run.embedding_dir(str(tiny_whisper))
    made_at = (shards / "embeddings_00000.npy").stat().st_mtime_ns
    shutil.rmtree(shards / GRADIENTS_DIR)
    capsys.readouterr()
    after = gradients_of(corpus_run, tiny_whisper)
    assert "36 of 36 utterances were done before" in capsys.readouterr().out
    np.testing.assert_array_equal(after.embeddings_ND, before.embeddings_ND)
    assert (shards / "embeddings_00000.npy").stat().st_mtime_ns == made_at


@pytest.mark.parametrize(("number", "num_done"), [("SIGKILL", 16), ("SIGTERM", 20)])
def test_gradients_that_were_stopped_in_their_midst_end_with_the_same_bits(
    number: str,
    num_done: int,
    corpus_run: RunDir,
    tiny_whisper: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = RunDir(tmp_path / "whole")
    shutil.copytree(corpus_run.stage_dir("corpus"), whole.stage_dir("corpus"))
    flags = ["--batch-size", "4", "--shard-size", "8"]
    assert embed_and_die(corpus_run, tiny_whisper, number, 9 + 4, "--gradients", *flags) in (-9, 143)
    with refuses("file.missing", "mapping.json"):
        EmbeddingStore.load(corpus_run.embedding_dir(str(tiny_whisper)) / GRADIENTS_DIR)
    capsys.readouterr()
    stopped = gradients_of(corpus_run, tiny_whisper, *flags)
    printed = capsys.readouterr().out
    assert "36 of 36 utterances were done before" in printed
    assert f"{num_done} of 24 utterances were done before" in printed, "SIGTERM keeps what no shard was full of"
    never = gradients_of(whole, tiny_whisper, *flags)
    assert stopped.ids == never.ids
    np.testing.assert_array_equal(stopped.embeddings_ND, never.embeddings_ND)


def test_gradients_can_be_added_to_a_run_that_was_embedded_without_and_is_clustered(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    shutil.copytree(clustered_run, run.path)
    vectors = run.embedding_dir(str(tiny_whisper)) / "embeddings_00000.npy"
    before = vectors.stat().st_mtime_ns
    assert len(gradients_of(run, tiny_whisper).ids) == 24
    assert vectors.stat().st_mtime_ns == before
    assert [finding for one in verify(run.path) for finding in one.findings] == []


def test_a_store_of_gradients_is_no_store_of_embeddings(
    corpus_run: RunDir, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gradients_of(corpus_run, tiny_whisper)
    folder = corpus_run.embedding_dir(str(tiny_whisper)) / GRADIENTS_DIR
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cluster(["--embedding-dir", str(folder), "--output-dir", str(tmp_path / "out"), "--algorithm", "kmeans"])
    assert "holds gradients of the loss" in only_line(ended.value.code, capsys.readouterr().err)


def test_clustering_by_gradients_that_were_not_kept_names_the_way_out(
    clustered_run: Path, tiny_whisper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = RunDir(clustered_run).embedding_dir(str(tiny_whisper))
    flags = ["--algorithm", "kmeans", "--num-experts", "2", "--reduce", "gradients", "--manifest-dir", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        cluster(["--embedding-dir", str(store), "--output-dir", str(tmp_path / "out"), *flags])
    line = only_line(ended.value.code, capsys.readouterr().err)
    assert "`moe-lightning embed --gradients`" in line


def test_a_run_is_clustered_by_gradients_and_labels_new_utterances(
    corpus_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gradients_of(corpus_run, tiny_whisper)
    store, output = corpus_run.embedding_dir(str(tiny_whisper)), corpus_run.stage_dir("clustering")
    flags = ["--algorithm", "kmeans", "--num-experts", "2", "--reduce", "gradients", "--plot", "none", "--no-report"]
    cluster(["--embedding-dir", str(store), "--output-dir", str(output), *flags])
    assert "of the variance of the gradients" in capsys.readouterr().out
    cluster(["predict", "--run-dir", str(corpus_run.path), "--embedding-dir", str(store)])


@pytest.mark.parametrize(
    ("flags", "keeps"),
    [
        (["--mode", "full", "--reduce", "gradients"], True),
        (["--mode", "full", "--set", "clustering.reduce=gradients"], True),
        (["--mode", "full"], False),
        (["--mode", "quick"], True),
        (["--mode", "quick", "--set", "clustering.reduce=pca"], False),
        (["--mode", "quick", "--dataset-root", "somewhere"], False),
    ],
)
def test_the_pipeline_keeps_gradients_where_the_clustering_asks_for_them(
    flags: list[str], keeps: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline([*flags, "--dry-run"])
    embedding = next(line for line in capsys.readouterr().out.splitlines() if "moe_lightning.embedding" in line)
    assert ("--gradients" in embedding) is keeps


def test_a_transcript_that_the_model_cannot_write_is_refused_before_the_work(
    corpus_run: RunDir, tiny_whisper: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = read_manifest(corpus_run.manifest_file("train"))[3]
    long = replace(one, text="one " * 500)
    monkeypatch.setattr("moe_lightning.embedding.embed.read_split", lambda run, split: [long])
    with pytest.raises(SystemExit) as ended:
        gradients_of(corpus_run, tiny_whisper)
    assert repr(one.id) in only_line(ended.value.code, capsys.readouterr().err)
    assert not corpus_run.embedding_dir(str(tiny_whisper)).exists()
