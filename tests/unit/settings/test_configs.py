"""Every shipped YAML parses, and the defaults are the documented ones."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from moe_lightning.moe.module import MoEASRModule
from moe_lightning.settings.command_line import CONFIG_DIR, with_shipped_configs
from moe_lightning.settings.embedding import EmbeddingSettings
from moe_lightning.settings.guide import build_parser, parse
from moe_lightning.settings.joint import DECIDED
from tests.places import ROOT
from tests.refusals import refuses

CONFIGS = ROOT / "configs"
TRAINED_STAGES = ("gating", "experts", "moe")
GUIDES_DEFAULTS = {
    "mode": "full",
    "seed": 42,
    "dataset_root": "Data/extracted_data",
    "whisper_model": "v2",
    "clustering_algorithm": "hdbscan",
    "num_experts": 8,
    "pooling": "mean",
    "reduce": "pca",
    "reduce_dim": 50,
    "plot_method": "umap",
    "gradient_accumulation_steps": 1,
    "eval_every_n_epochs": 1,
    "save_every_n_epochs": 1,
}
GUIDES_FLAGS = [
    "--mode",
    "--seed",
    "--fp16",
    "--no-fp16",
    "--whisper-model",
    "--clustering-algorithm",
    "--num-experts",
    "--pooling",
    "--reduce",
    "--reduce-dim",
    "--plot-method",
    "--no-plot",
    "--gating-batch-size",
    "--expert-batch-size",
    "--asr-batch-size",
    "--num-workers",
    "--gradient-accumulation-steps",
    "--resume",
    "--eval-every-n-epochs",
    "--save-every-n-epochs",
    "--log-file",
    "--dataset-root",
    "--data-percent",
    "--min-clusters",
    "--min-cluster-size",
    "--max-retries",
    "--min-samples",
    "--metric",
    "--allow-single-cluster",
    "--hdbscan-algorithm",
    "--no-reduce-experts",
    "--min-experts",
    "--config",
    "--run-dir",
    "--accelerator",
    "--devices",
    "--num-nodes",
    "--strategy",
    "--precision",
    "--allow-shared-speakers",
    "--allow-outside-root",
    "--skip-bad-audio",
]


def printed_config(stage: str, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    """What a stage's command resolves its shipped YAML to."""
    command = import_module(f"moe_lightning.{stage}.__main__").main
    with pytest.raises(SystemExit) as ended:
        command(["fit", "--config", str(CONFIGS / f"{stage}.yaml"), *flags, "--print_config"])
    assert ended.value.code in (0, None)
    config = yaml.safe_load(capsys.readouterr().out)
    assert isinstance(config, dict)
    return config


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_every_shipped_yaml_is_a_mapping_that_says_what_it_is_for(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert isinstance(yaml.safe_load(text), dict)
    assert text.startswith("# ")


def test_there_is_a_yaml_for_the_pipeline_and_every_trained_stage() -> None:
    assert {f"{name}.yaml" for name in ("pipeline", "quick", *TRAINED_STAGES)} <= {f.name for f in CONFIGS.iterdir()}


@pytest.mark.parametrize("stage", TRAINED_STAGES)
def test_a_stages_yaml_resolves_to_the_documented_defaults(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = printed_config(stage, capsys)
    expected = {"gating": (20, 256), "experts": (5, 4), "moe": (10, 4)}[stage]
    assert (config["trainer"]["max_epochs"], config["data"]["batch_size"]) == expected
    assert config["early_stopping"]["patience"] == 5
    optimizer = "torch.optim.AdamW" if stage == "gating" else "moe_lightning.training.optimizer.ExpertAdamW"
    assert config["model"]["optimizer"]["class_path"] == optimizer
    assert config["model"]["optimizer"]["init_args"]["lr"] == pytest.approx(1e-4)
    assert config["model"]["optimizer"]["init_args"]["weight_decay"] == pytest.approx(0.01)
    assert config["model"].get("whisper_model", "v2") == "v2"
    assert config["seed_everything"] == 42


def test_the_experts_have_the_documented_size(capsys: pytest.CaptureFixture[str]) -> None:
    model = printed_config("experts", capsys)["model"]
    assert (model["rank"], model["alpha"], model["dropout"], model["top_k"]) == (16, 32.0, 0.05, 2)
    assert sorted(model["target_modules"]) == ["q_proj", "v_proj"]


def test_the_joint_stage_balances_by_a_hundredth_and_routes_to_the_two_best(capsys: pytest.CaptureFixture[str]) -> None:
    model = printed_config("moe", capsys)["model"]
    assert (model["routing"], model["top_k"]) == ("top_k", 2)
    assert model["gate_training"]["balance_weight"] == 0.01


def test_the_gate_is_512_wide(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed_config("gating", capsys)["model"]["hidden_dim"] == 512


def test_the_joint_stage_asks_for_nothing_that_an_earlier_stage_decided(capsys: pytest.CaptureFixture[str]) -> None:
    own = {stage: set(printed_config(stage, capsys)["model"]) for stage in TRAINED_STAGES}
    decided = {name for names in DECIDED.values() for name in names}
    assert len(decided) == 13
    assert not own["moe"] & decided
    for stage in ("gating", "experts"):
        assert set(DECIDED[stage]) <= own[stage]
    assert set(DECIDED["embedding"]) <= set(EmbeddingSettings.__dataclass_fields__)


def test_the_joint_stage_has_at_most_22_arguments() -> None:
    assert len(inspect.signature(MoEASRModule).parameters) <= 22


def test_the_number_of_experts_has_no_place_in_any_stages_config(capsys: pytest.CaptureFixture[str]) -> None:
    for stage in TRAINED_STAGES:
        config = printed_config(stage, capsys)
        assert "num_experts" not in config["model"]
        assert "num_experts" not in config["data"]


def test_a_flag_wins_over_a_stages_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    config = printed_config("experts", capsys, "--model.rank", "4", "--trainer.accumulate_grad_batches", "8")
    assert config["model"]["rank"] == 4
    assert config["trainer"]["accumulate_grad_batches"] == 8
    assert config["model"]["alpha"] == 32.0


def test_the_pipelines_yaml_holds_the_guides_defaults() -> None:
    assert yaml.safe_load((CONFIGS / "pipeline.yaml").read_text()) == GUIDES_DEFAULTS
    options = vars(parse([]))
    assert {name: options[name] for name in GUIDES_DEFAULTS} == GUIDES_DEFAULTS


def test_every_flag_of_the_guide_is_in_the_help() -> None:
    words = build_parser().format_help().replace(",", " ").split()
    assert [flag for flag in GUIDES_FLAGS if flag not in words] == []


def test_every_flag_has_a_word_of_help_or_a_name_that_says_it_all() -> None:
    unexplained = [action.dest for action in build_parser()._actions if not action.help]
    assert set(unexplained) <= {"allow_single_cluster", "devices"}


def test_a_run_lies_under_the_logs_by_its_mode_with_its_log_beside_it() -> None:
    options = parse([])
    assert options.run_dir == Path("lightning_logs/full")
    assert options.log_file == Path("lightning_logs/full/training.log")
    assert parse(["--mode", "quick"]).run_dir == Path("lightning_logs/quick")


def config_file(folder: Path, **settings: Any) -> str:
    file = folder / "own.yaml"
    file.write_text(yaml.safe_dump(settings))
    return str(file)


def test_a_config_wins_over_the_defaults_and_a_flag_over_the_config(tmp_path: Path) -> None:
    config = config_file(tmp_path, num_experts=3, clustering_algorithm="spectral", asr_batch_size=2, no_plot=True)
    options = parse(["--config", config, "--num-experts", "5"])
    assert (options.num_experts, options.clustering_algorithm, options.asr_batch_size) == (5, "spectral", 2)
    assert options.no_plot is True
    assert options.reduce_dim == 50


def test_a_flag_wins_wherever_it_stands(tmp_path: Path) -> None:
    config = config_file(tmp_path, num_experts=3)
    assert parse(["--num-experts", "5", "--config", config]).num_experts == 5
    assert parse(["--config", config, "--num-experts=5"]).num_experts == 5


def test_of_two_configs_the_later_wins(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    files = [config_file(tmp_path, seed=1, reduce_dim=7), config_file(tmp_path / "one", seed=2)]
    options = parse(["--config", files[0], "--config", files[1]])
    assert (options.seed, options.reduce_dim) == (2, 7)


@pytest.mark.parametrize(
    ("settings", "flags", "wanted"),
    [
        ({"fp16": True}, [], True),
        ({"fp16": False}, [], False),
        ({"fp16": True}, ["--no-fp16"], False),
        ({"fp16": False}, ["--fp16"], True),
        ({}, [], None),
    ],
)
def test_fp16_can_be_forced_forbidden_or_left_to_the_machine(
    tmp_path: Path, settings: dict[str, bool], flags: list[str], wanted: bool | None
) -> None:
    assert parse(["--config", config_file(tmp_path, **settings), *flags]).fp16 is wanted


def test_quick_mode_lays_its_overlay_under_configs_and_flags(tmp_path: Path) -> None:
    quick = yaml.safe_load((CONFIGS / "quick.yaml").read_text())
    options = parse(["--mode", "quick"])
    assert (options.dataset_root, options.whisper_model) == ("demo", "nano")
    assert options.asr_batch_size == quick["asr_batch_size"]
    assert options.max_utterances is None
    config = config_file(tmp_path, mode="quick", whisper_model="v3")
    assert parse(["--config", config]).whisper_model == "v3"
    assert parse(["--config", config]).dataset_root == "demo"
    assert parse(["--config", config, "--mode", "full"]).dataset_root == "Data/extracted_data"


def test_quick_mode_on_an_own_corpus_takes_a_handful() -> None:
    assert parse(["--mode", "quick", "--dataset-root", "mine"]).max_utterances == [10, 5, 5]
    assert parse(["--dataset-root", "mine"]).max_utterances is None


def test_any_option_of_a_stage_can_be_set_in_a_config_or_by_flag(tmp_path: Path) -> None:
    config = config_file(tmp_path, set={"experts.model.rank": 8, "moe.trainer.max_epochs": 3})
    options = parse(["--config", config, "--set", "moe.trainer.max_epochs=4"])
    assert options.set == {"experts.model.rank": "8", "moe.trainer.max_epochs": "4"}


@pytest.mark.parametrize("setting", ["rank", "rank=8", "experts.model.rank"])
def test_a_set_that_is_no_stage_option_value_is_refused(setting: str) -> None:
    with refuses("setting.syntax"):
        parse(["--set", setting])


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"num_expert": 3}, "setting.unknown"),
        ({"reduce": "tsne"}, "setting.choice"),
        ({"mode": "slow"}, "setting.choice"),
        ({"seed": "x"}, "setting.syntax"),
    ],
)
def test_a_config_is_checked_as_strictly_as_the_flags(tmp_path: Path, settings: dict[str, Any], code: str) -> None:
    with refuses(code):
        parse(["--config", config_file(tmp_path, **settings)])


def test_shipped_configs_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = str(CONFIG_DIR / "gating.yaml")
    assert with_shipped_configs(["fit", "--config", "gating.yaml", "--x"]) == ["fit", "--config", shipped, "--x"]
    assert with_shipped_configs(["--config=configs/gating.yaml"]) == [f"--config={shipped}"]
    for other in ("nothing.yaml", "elsewhere/gating.yaml", "/gating.yaml"):
        assert with_shipped_configs(["--config", other]) == ["--config", other]
    (tmp_path / "gating.yaml").touch()
    assert with_shipped_configs(["--config", "gating.yaml"]) == ["--config", "gating.yaml"], "the user's own"
