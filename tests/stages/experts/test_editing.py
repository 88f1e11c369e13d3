"""Experts come and go, and those that are not named decode as before."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.errors import InputError
from moe_lightning.experts.__main__ import main as experts_command
from moe_lightning.experts.editing import Mixture, add, drop, joined, merge
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.experts import SpeechExperts
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.moe.__main__ import main as moe
from moe_lightning.run.folder import RunDir
from tests.unit.models.test_lora import LANGUAGES, speech, with_deltas

CONFIG = ExpertConfig(4, rank=3, dropout=0.0, shared_rank=2, noop_expert=True)


def mixture_of(experts: SpeechExperts) -> Mixture:
    generator = torch.Generator().manual_seed(3)
    weight_EH, bias_E = torch.randn(4, 6, generator=generator), torch.randn(4, generator=generator)
    soft_labels_NE = torch.rand(9, 4, generator=generator).softmax(dim=1)
    return Mixture(experts.config, experts.expert_state(), weight_EH, bias_E, [soft_labels_NE])


@pytest.fixture(scope="module")
def experts(tiny_whisper: Path) -> SpeechExperts:
    return with_deltas(tiny_whisper, CONFIG)


def loaded(mixture: Mixture, tiny_whisper: Path) -> SpeechExperts:
    changed = with_deltas(tiny_whisper, mixture.config)
    changed.load_expert_state(mixture.deltas)
    return changed


CHANGES = {
    "add": (add, {0: 0, 1: 1, 2: 2, 3: 4}),
    "drop the second": (lambda mixture: drop(mixture, 1), {0: 0, 2: 1, 3: 2}),
    "drop the no-op expert": (lambda mixture: drop(mixture, 3), {0: 0, 1: 1, 2: 2}),
    "merge": (lambda mixture: merge(mixture, 2, 0, 0.3), {1: 0, 3: 2}),
}


@pytest.mark.parametrize(("change", "places"), CHANGES.values(), ids=list(CHANGES))
def test_experts_that_are_not_named_decode_identically(
    change, places: dict[int, int], experts: SpeechExperts, tiny_whisper: Path
) -> None:
    before = mixture_of(experts)
    after = change(before)
    changed = loaded(after, tiny_whisper)
    assert after.gate_weight_EH.shape == (after.config.num_experts, 6)
    for old, new in places.items():
        gates = torch.eye(4)[[old] * 3], torch.eye(after.config.num_experts)[[new] * 3]
        with torch.no_grad():
            frames = [
                one.encode(*speech(), gate).values_BTD for one, gate in zip((experts, changed), gates, strict=True)
            ]
        torch.testing.assert_close(*frames, atol=1e-6, rtol=1e-6)
        texts = [
            one.transcribe(*speech(), LANGUAGES, gate).texts
            for one, gate in zip((experts, changed), gates, strict=True)
        ]
        assert texts[0] == texts[1]
        assert torch.equal(before.gate_weight_EH[old], after.gate_weight_EH[new])
        assert torch.equal(before.gate_bias_E[old], after.gate_bias_E[new])
    torch.testing.assert_close(after.soft_labels[0].sum(dim=1), torch.ones(9))


def test_a_merged_expert_is_the_best_of_its_rank_for_the_weighted_sum(experts: SpeechExperts) -> None:
    before = mixture_of(experts)
    after = merge(before, 0, 2, 0.3)
    for name in experts.layers:
        down, up = before.deltas[f"{name}.down_RD"].double(), before.deltas[f"{name}.up_RD"].double()
        wanted = 0.3 * down[:3].T @ up[:3] + 0.7 * down[6:9].T @ up[6:9]
        found = after.deltas[f"{name}.down_RD"][:3].double().T @ after.deltas[f"{name}.up_RD"][:3].double()
        error = torch.linalg.svdvals(wanted)[3:].norm()
        torch.testing.assert_close((wanted - found).norm(), error, atol=1e-4, rtol=1e-4)
    hidden_NH = torch.randn(20, 6, generator=torch.Generator().manual_seed(4))
    logits = [hidden_NH @ one.gate_weight_EH.T + one.gate_bias_E for one in (before, after)]
    summed = torch.stack([logits[0][:, 0], logits[0][:, 2]]).logsumexp(dim=0)
    assert (logits[1][:, 0] <= summed + 1e-5).all()


def test_merging_an_expert_with_its_copy_gives_it_back(experts: SpeechExperts, tiny_whisper: Path) -> None:
    twice = add(mixture_of(experts), like=1)
    again = merge(twice, 1, 3, 0.5)
    found = loaded(again, tiny_whisper)
    gate_BE = torch.eye(4)[[1, 1, 1]]
    with torch.no_grad():
        frames = [one.encode(*speech(), gate_BE).values_BTD for one in (experts, found)]
    torch.testing.assert_close(*frames, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda mixture: drop(mixture, 4),
        lambda mixture: add(mixture, like=3),
        lambda mixture: merge(mixture, 1, 1),
        lambda mixture: merge(mixture, 0, 3),
        lambda mixture: merge(mixture, 0, 1, share=1.0),
        lambda mixture: drop(drop(drop(mixture, 0), 0), 0),
    ],
)
def test_changes_that_make_no_sense_are_refused(change, experts: SpeechExperts) -> None:
    with pytest.raises(InputError):
        change(mixture_of(experts))


def test_joined_experts_take_their_rows_each_from_its_own_job() -> None:
    config = ExpertConfig(2, rank=2)
    parts = [{"a.up_RD": torch.full((4, 5), float(number))} for number in (1, 2)]
    assert joined(parts, [0, 1], config)["a.up_RD"][:, 0].tolist() == [1, 1, 2, 2]


def test_the_command_makes_a_run_of_its_own(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in finished_run.rglob("*") if file.is_file()}
    larger, back = RunDir(tmp_path / "larger"), RunDir(tmp_path / "back")
    experts_command(["add", "--run-dir", str(finished_run), "--output-dir", str(larger.path), "--to-train"])
    line = capsys.readouterr().out.partition("train its joint stage: ")[2]
    with pytest.raises(SystemExit) as taken:
        moe([*shlex.split(line)[3:], "--print_config"])
    assert taken.value.code == 0, line
    assert f"run_dir: {larger.path}" in capsys.readouterr().out
    experts_command(["drop", "2", "--run-dir", str(larger.path), "--output-dir", str(back.path)])
    assert {file: file.read_bytes() for file in finished_run.rglob("*") if file.is_file()} == before
    mixtures = [MixtureASR.load(run.mixture_files) for run in (RunDir(finished_run), larger, back)]
    assert [mixture.config.experts.num_experts for mixture in mixtures] == [2, 3, 2]
    texts = [mixture.hypotheses(*speech(), LANGUAGES).texts for mixture in mixtures]
    assert texts[0] == texts[1] == texts[2]
    for file in larger.all_soft_labels_files():
        assert SoftLabels.load(file).num_experts == 3
    assert json.loads((larger.expert_dir(2) / "adapter_config.json").read_text())["r"] == 32
    assert not larger.record_file("moe").exists()
    with pytest.raises(SystemExit):
        experts_command(["add", "--run-dir", str(finished_run), "--output-dir", str(larger.path)])
    assert "nothing is overwritten" in capsys.readouterr().err


def test_a_floor_that_more_experts_could_not_all_have_is_lowered_in_proportion(
    finished_run: Path, tmp_path: Path
) -> None:
    run, larger, largest = RunDir(tmp_path / "run"), RunDir(tmp_path / "larger"), RunDir(tmp_path / "largest")
    shutil.copytree(finished_run, run.path)
    settings = json.loads(run.mixture_config_file.read_text())
    run.mixture_config_file.write_text(json.dumps({**settings, "min_expert_prob": 0.3}))
    experts_command(["add", "--run-dir", str(run.path), "--output-dir", str(larger.path)])
    assert MixtureASR.load(larger.mixture_files).config.min_expert_prob == 0.3
    experts_command(["add", "--run-dir", str(larger.path), "--output-dir", str(largest.path)])
    assert MixtureASR.load(largest.mixture_files).config.min_expert_prob == pytest.approx(0.3 * 3 / 4)


def test_an_enlarged_run_trains_on(finished_run: Path, tiny_whisper: Path, tmp_path: Path) -> None:
    from tests.stage_runs import fit

    larger = RunDir(tmp_path / "larger")
    arguments = ["--run-dir", str(finished_run), "--output-dir", str(larger.path), "--gate-bias", "0", "--to-train"]
    experts_command(["add", "--like", "0", *arguments])
    shutil.rmtree(larger.stage_dir("moe"))
    fit("moe", larger.path, tiny_whisper, "--trainer.max_epochs", "1")
    assert MixtureASR.load(larger.mixture_files).config.experts.num_experts == 3


def test_the_help_names_the_changes_beside_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        experts_command(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "add, drop, merge, join" in text
    assert "validate" in text
