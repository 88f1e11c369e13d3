"""One mixture's weights decoded in other ways: what a ladder compares without training."""

import json
import shutil
from pathlib import Path

import pytest

from moe_lightning.clustering.__main__ import main as cluster
from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.normaliser import Normaliser
from moe_lightning.evaluation.__main__ import main
from moe_lightning.evaluation.alignment import count_words
from moe_lightning.evaluation.decodings import decode_as
from moe_lightning.evaluation.evaluate import gate_speakers
from moe_lightning.evaluation.hypotheses import read_hypotheses
from moe_lightning.evaluation.usage import true_experts
from moe_lightning.models.backbones.decoding import DecodeOptions
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import RunInputs
from moe_lightning.settings.evaluation import EvaluationSettings, System
from moe_lightning.training.speech_loaders import SpeechLoaders
from tests.refusals import refuses

EXACT = DecodeOptions(max_tokens=60, guard=False)


@pytest.fixture(scope="module")
def decoded(finished_run: Path) -> dict[str, list[str]]:
    """References and transcripts of the first test batch by every system."""
    run = RunDir(finished_run)
    mixture = MixtureASR.load(run.mixture_files)
    loader = SpeechLoaders(run, RunInputs.load(run, mixture.config.whisper_model), batch_size=6).fixed("test")
    batch = next(iter(loader))
    experts = {id_: row % 2 for row, id_ in enumerate(batch.ids)}
    systems: tuple[System, ...] = ("backbone", "uniform", "label", "best_expert", "mixture")
    logits_BE = mixture.gate.head(batch.embeddings_BD)
    texts = {name: decode_as(name, mixture, batch, logits_BE, experts, options=EXACT).texts for name in systems}
    for expert in range(2):
        only = dict.fromkeys(batch.ids, expert)
        texts[f"expert {expert}"] = decode_as("label", mixture, batch, logits_BE, only, options=EXACT).texts
    return {**texts, "reference": batch.texts, "language": batch.languages}


def test_the_expert_of_the_true_group_says_an_utterance(decoded: dict[str, list[str]]) -> None:
    for row, text in enumerate(decoded["label"]):
        assert text == decoded[f"expert {row % 2}"][row]


def test_the_best_expert_of_each_utterance_makes_the_fewest_errors(decoded: dict[str, list[str]]) -> None:
    def said(name: str) -> list[str]:
        return [Normaliser()(*pair) for pair in zip(decoded[name], decoded["language"], strict=True)]

    errors = {
        name: count_words(said("reference"), said(name)).errors_N for name in ("best_expert", "expert 0", "expert 1")
    }
    best = errors["best_expert"].tolist()
    assert best == [min(pair) for pair in zip(errors["expert 0"], errors["expert 1"], strict=True)]


def test_every_system_that_is_asked_for_is_scored(finished_run: Path, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(finished_run, tmp_path / "run")))
    systems = "backbone,uniform,best_expert,mixture"
    main(["--run-dir", str(run.path), "--num-workers", "0", "--accelerator", "cpu", "--systems", systems])
    results = json.loads(run.results_file.read_text())
    assert list(results["systems"]) == systems.split(",")
    trained = {name: one["trained_parameters"] for name, one in results["systems"].items()}
    assert trained["backbone"] == 0 < trained["uniform"] == trained["best_expert"] < trained["mixture"]


@pytest.mark.parametrize(
    ("names", "refusal"),
    [
        (("backbone", "mixture", "other"), ("setting.choice", "--systems other")),
        (("mixture",), ("setting.conflict", "--systems")),
    ],
)
def test_systems_that_there_are_not_are_refused(names: tuple[str, ...], refusal: tuple[str, ...]) -> None:
    with refuses(*refusal):
        EvaluationSettings(systems=",".join(names))


def test_the_true_groups_experts_are_known_only_to_a_run_clustered_by_a_field(
    clustered_run: Path, tmp_path: Path
) -> None:
    plain = RunDir(clustered_run)
    test = read_manifest(plain.manifest_file("test"))
    with refuses("setting.conflict", "--systems label"):
        true_experts(plain, test)
    run = RunDir(Path(shutil.copytree(clustered_run, tmp_path / "run")))
    shutil.rmtree(run.stage_dir("clustering"))
    folders = ["--embedding-dir", str(run.embedding_dirs()[0]), "--output-dir", str(run.stage_dir("clustering"))]
    cluster([*folders, "--algorithm", "label", "--label-field", "accent", "--plot", "none"])
    experts = true_experts(run, test)
    accents = {utterance.id: utterance.fields["accent"] for utterance in test}
    assert len({(accents[id_], expert) for id_, expert in experts.items()}) == len(set(accents.values()))


def test_the_gate_that_hears_speakers_chooses_the_same_experts_for_all_that_one_says(
    finished_run: Path, tmp_path: Path
) -> None:
    rows = {}
    for gate_by in ("utterance", "speaker"):
        run = RunDir(Path(shutil.copytree(finished_run, tmp_path / gate_by)))
        flags = ["--num-workers", "0", "--accelerator", "cpu", "--systems", "backbone,utterance_gate,mixture"]
        main(["--run-dir", str(run.path), *flags, "--gate-by", gate_by])
        assert json.loads(run.results_file.read_text())["decoding"]["gate_by"] == gate_by
        rows[gate_by] = read_hypotheses(run.report("test"))
    alone, together = rows["utterance"], rows["speaker"]
    assert [row["mixture"] for row in alone] == [row["utterance_gate"] for row in alone]
    assert [row["utterance_gate"] for row in together] == [row["mixture"] for row in alone]
    by_speaker: dict[str, list[list[float]]] = {}
    for row in together:
        by_speaker.setdefault(row["speaker"], []).append(row["gate"])
    assert max(map(len, by_speaker.values())) > 1
    assert all(gates == [gates[0]] * len(gates) for gates in by_speaker.values())
    assert [row["gate"] for row in together] != [row["gate"] for row in alone]


def test_by_itself_the_gate_hears_what_the_clusters_were_made_of(clustered_run: Path, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(clustered_run, tmp_path / "run")))
    test = read_manifest(run.manifest_file("test"))
    settings = json.loads(run.clusterer_file.read_text())
    for share, expected in ((0.0, None), (0.8, {one.id: one.speaker for one in test})):
        settings["settings"]["pool_speakers"] = share
        run.clusterer_file.write_text(json.dumps(settings))
        assert gate_speakers(run, test, "auto") == expected
    assert gate_speakers(run, test, "utterance") is None
