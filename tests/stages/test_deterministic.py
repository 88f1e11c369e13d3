"""`--deterministic` reaches every stage that computes with torch; a CPU computes the same bits without it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from moe_lightning.embedding.__main__ import main as embed
from moe_lightning.evaluation.__main__ import main as evaluate
from moe_lightning.models.backbones.ctc import CTCBackbone
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.device import deterministic
from moe_lightning.run.folder import RunDir
from moe_lightning.run.pipeline import main as pipeline
from tests.stage_runs import fit


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # put back to what it was
    yield
    torch.use_deterministic_algorithms(False)


def test_the_flag_reaches_every_stage_that_computes_with_torch(capsys: pytest.CaptureFixture[str]) -> None:
    pipeline(["--mode", "quick", "--deterministic", "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    for line in lines:
        stage = line.split()[2].rpartition(".")[2]
        flag = {"embedding": "--deterministic", "evaluation": "--deterministic"}.get(
            stage, "--trainer.deterministic true"
        )
        assert (flag in line) == (stage not in ("corpus", "clustering")), line
    pipeline(["--mode", "quick", "--dry-run"])
    assert "deterministic" not in capsys.readouterr().out


def test_a_training_with_it_is_the_one_without_on_a_cpu(
    pretrained_run: Path, finished_run: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(Path(shutil.copytree(pretrained_run, tmp_path / "run")))
    flags = ["--trainer.max_epochs", "1", "--trainer.deterministic", "true"]
    fit("moe", run.path, tiny_whisper, *flags)
    assert torch.are_deterministic_algorithms_enabled()
    assert run.mixture_file.read_bytes() == RunDir(finished_run).mixture_file.read_bytes()


def test_embedding_and_evaluation_with_it_are_those_without_on_a_cpu(
    evaluated_run: RunDir, tiny_whisper: Path, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    shutil.copytree(evaluated_run.stage_dir("corpus"), run.stage_dir("corpus"))
    embed(["--run-dir", str(run.path), "--whisper-model", str(tiny_whisper), "--num-workers", "0", "--deterministic"])
    for file in evaluated_run.embedding_dir(str(tiny_whisper)).glob("*.npy"):
        assert (run.path / file.relative_to(evaluated_run.path)).read_bytes() == file.read_bytes()
    again = RunDir(Path(shutil.copytree(evaluated_run.path, tmp_path / "again")))
    shutil.rmtree(again.stage_dir("evaluation"))
    own = ["--run-dir", str(again.path), "--num-workers", "0", "--accelerator", "cpu", "--no-guard"]
    evaluate([*own, "--deterministic"])
    assert again.hypotheses_file.read_bytes() == evaluated_run.hypotheses_file.read_bytes()


def test_the_setting_ends_with_the_block() -> None:
    torch.use_deterministic_algorithms(False)
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_loss_of_ctc_and_its_gradient_are_the_same_with_it(tiny_ctc: Path) -> None:
    backbone = load_backbone(str(tiny_ctc))
    assert isinstance(backbone, CTCBackbone)
    generator = torch.Generator().manual_seed(0)
    waveforms_BL = torch.randn(2, 16000, generator=generator)
    targets = backbone.targets(["abc", "ba"], [None, None])
    found = []
    for is_wanted in (False, True):
        backbone.model.zero_grad()
        with deterministic(is_wanted):
            frames = backbone.encode(backbone.features(waveforms_BL, torch.tensor([16000, 12000])))
            loss = backbone.token_loss(frames, targets)
            loss.sum_B.sum().backward()
        gradient = backbone.model.lm_head.weight.grad
        assert gradient is not None
        found.append((loss.sum_B.detach(), gradient.clone()))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
