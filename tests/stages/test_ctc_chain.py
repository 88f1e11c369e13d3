"""Every stage on a CTC model, as its command runs it."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from moe_lightning.clustering.__main__ import main as cluster
from moe_lightning.corpus.__main__ import main as corpus
from moe_lightning.data.audio import read_file
from moe_lightning.data.embedding_store import EmbeddingStore
from moe_lightning.data.manifest import read_manifest
from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.evaluation.__main__ import main as evaluate
from moe_lightning.inference.__main__ import main as transcribe
from moe_lightning.inference.transcribe import transcribe_file
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.backbones.pretrained import load_ctc
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.run.folder import RunDir
from tests.ctc_models import write_ctc
from tests.refusals import Refusals, fit_arguments
from tests.stage_runs import fit


def embed_corpus(folder: Path, corpus_dir: Path, model: Path) -> RunDir:
    run = RunDir(folder / "run")
    corpus(["--dataset-root", str(corpus_dir), "--run-dir", str(run.path)])
    embed(["--run-dir", str(run.path), "--whisper-model", str(model), "--num-workers", "0"])
    return run


def cluster_run(run: RunDir, model: Path) -> None:
    store, output = str(run.embedding_dir(str(model))), str(run.stage_dir("clustering"))
    spectral = ["--algorithm", "spectral", "--num-experts", "2", "--plot", "none"]
    cluster(["--embedding-dir", store, "--output-dir", output, *spectral])


@pytest.fixture(scope="module")
def run(tiny_ctc: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A finished run: corpus, embedding, clustering, gating, experts, moe."""
    run = embed_corpus(tmp_path_factory.mktemp("ctc"), tiny_corpus, tiny_ctc)
    cluster_run(run, tiny_ctc)
    fit("gating", run.path, tiny_ctc, "--trainer.max_epochs", "1")
    masks = ["--model.num_time_masks", "2"]
    fit("experts", run.path, tiny_ctc, "--trainer.max_epochs", "1", *masks)
    fit("moe", run.path, tiny_ctc, "--trainer.max_epochs", "1", *masks)
    return run


@pytest.fixture
def clustered(run: RunDir, tmp_path: Path) -> RunDir:
    """A run of its own whose corpus, embeddings and clusters are those of the finished one."""
    new = RunDir(tmp_path / "run")
    for stage in ("corpus", "embedding", "clustering"):
        new.stage_dir(stage).parent.mkdir(parents=True, exist_ok=True)
        new.stage_dir(stage).symlink_to(run.stage_dir(stage))
    return new


def test_an_attentive_gate_listens_to_a_ctc_model_below_its_experts(
    clustered: RunDir, tiny_ctc: Path, tiny_corpus: Path
) -> None:
    quick = ["--trainer.max_epochs", "1", "--data.batch_size", "8"]
    live = ["--model.gate", "attentive", "--model.gate_input", "live", "--model.gate_layers", "0,1"]
    above = ["--model.adapt_from_layer", "1"]
    fit("gating", clustered.path, tiny_ctc, *quick, *live)
    fit("experts", clustered.path, tiny_ctc, *quick, *above)
    fit("moe", clustered.path, tiny_ctc, *quick)
    before, after = torch.load(clustered.gate_file, weights_only=True), load_file(clustered.mixture_file)
    for name in ("layer_logits", "frame_score.weight", "head.output.weight"):
        assert not torch.equal(before[name], after[f"gate.{name}"]), name
    mixture = MixtureASR.load(clustered.mixture_files)
    waveform_BL = torch.from_numpy(read_file(tiny_corpus / "test_1.wav"))[None]
    logits_BE, base = mixture.audio_logits(waveform_BL, torch.tensor([waveform_BL.shape[1]]))
    assert base is not None, "one pass serves gate and experts"
    assert float(mixture.gates(logits_BE).sum()) == pytest.approx(1)


def test_every_expert_of_a_ctc_model_has_learnt(run: RunDir) -> None:
    for file in (run.pretrained_experts_file, run.mixture_file):
        ups = {name: tensor for name, tensor in load_file(file).items() if name.endswith("up_RD")}
        assert {name.split(".")[-2] for name in ups} == {"q_proj", "v_proj"}
        for up_RD in ups.values():
            assert all(rows.abs().sum() > 0 for rows in up_RD.split(16))


def test_a_finished_run_of_a_ctc_model_is_evaluated(run: RunDir) -> None:
    evaluate(["--run-dir", str(run.path), "--num-workers", "0", "--no-guard"])  # its tones are no speech
    results = json.loads(run.results_file.read_text())
    assert {"backbone", "mixture"} <= results["systems"].keys()
    assert results["systems"]["mixture"]["wer"] > 0


def test_a_ctc_model_is_evaluated_with_beams(run: RunDir) -> None:
    """As `transcribe` writes with as many."""
    found = {}
    for num_beams in ("1", "4"):
        own = ["--run-dir", str(run.path), "--num-workers", "0", "--split", "dev", "--no-guard"]
        evaluate([*own, "--num-beams", num_beams])
        assert json.loads(run.report("dev").results_file.read_text())["decoding"]["num_beams"] == int(num_beams)
        rows = [json.loads(line) for line in run.report("dev").hypotheses_file.read_text().splitlines()]
        found[num_beams] = {row["id"]: (row["backbone"], row["mixture"]) for row in rows}
    for system in (0, 1):
        assert any(found["1"][id_][system] != found["4"][id_][system] for id_ in found["1"])
    (utterance,) = [one for one in read_manifest(run.manifest_file("dev")) if one.id == "dev_1"]
    mixture = MixtureASR.load(run.mixture_files)
    options = DecodeOptions(num_beams=4, guard=False)
    transcript = transcribe_file(mixture, Path(utterance.audio_file), options=options)
    assert transcript.text == found["4"]["dev_1"][1]


def test_audio_is_transcribed_by_a_ctc_mixture_greedily_or_with_beams(
    run: RunDir, tiny_corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(tiny_corpus / f"test_{number}.wav") for number in range(3)]
    found = {}
    for num_beams in ("1", "4"):
        transcribe([*files, "--run-dir", str(run.path), "--num-beams", num_beams, "--no-guard"])
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("\t")[0] for line in lines] == files
        found[num_beams] = [line.split("\t")[2] for line in lines]
    assert found["1"] != found["4"]


def test_peft_loads_an_expert_of_a_ctc_model_and_hears_the_same(run: RunDir, tiny_ctc: Path) -> None:
    mixture = MixtureASR.load(run.mixture_files)
    waveforms_BL, num_samples_B = 0.1 * torch.randn(1, 9_000), torch.tensor([9_000])
    backbone = load_backbone(str(tiny_ctc)).eval()
    plain = load_ctc(str(tiny_ctc)).model
    backbone.model = PeftModel.from_pretrained(plain, run.expert_dir(1)).base_model.model.eval()
    with torch.no_grad():
        expected = backbone.encode(backbone.features(waveforms_BL, num_samples_B)).values_BTD
        found = mixture.experts.encode(waveforms_BL, num_samples_B, torch.tensor([[0.0, 1.0]])).values_BTD
        bare = load_backbone(str(tiny_ctc)).eval().encode(backbone.features(waveforms_BL, num_samples_B)).values_BTD
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(found, bare, atol=1e-5)


def test_bands_of_a_waveform_cannot_be_hidden(
    clustered: RunDir, tiny_ctc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = fit_arguments(clustered, "experts", tiny_ctc, "--model.num_freq_masks", 2)
    line = Refusals(capsys)("experts.__main__", *flags)
    assert "num_freq_masks is 2, and the speech model reads waveforms" in line


def test_an_encoder_alone_embeds_and_is_refused_where_experts_are_to_write(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = write_ctc(tmp_path / "encoder", "hubert", has_head=False)
    run = embed_corpus(tmp_path, tiny_corpus, encoder)
    assert EmbeddingStore.load(run.embedding_dir(str(encoder))).embeddings_ND.shape == (36, 32)
    cluster_run(run, encoder)
    line = Refusals(capsys)("experts.__main__", *fit_arguments(run, "experts", encoder))
    assert "is an encoder without a CTC head: it can embed, not recognise" in line


def test_the_window_of_whisper_is_refused_for_a_ctc_model(
    tiny_ctc: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / "run")
    corpus(["--dataset-root", str(tiny_corpus), "--run-dir", str(run.path)])
    embed_flags = ["--run-dir", run.path, "--whisper-model", tiny_ctc, "--window", "30"]
    line = Refusals(capsys)("embedding.__main__", *embed_flags)
    assert "window 30" in line
    assert "CTC" in line
