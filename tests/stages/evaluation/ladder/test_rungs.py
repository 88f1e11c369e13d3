"""The parts of a ladder: sizes, flags, learning rates, the verdict."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from moe_lightning.evaluation.ladder.rows import MIXTURE, one_lora, run_size, rungs, trained_rows
from moe_lightning.evaluation.ladder.tuning import base_rates, best_factor, check_factors, rate_flags
from moe_lightning.evaluation.ladder.verdict import judge_ladder, recovered
from moe_lightning.evaluation.systems import score_systems
from moe_lightning.evaluation.usage import expert_usage
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.reports.results import Results
from moe_lightning.run.folder import RunDir
from moe_lightning.run.pipeline import stage_commands
from moe_lightning.settings.evaluation import ScoreSettings
from moe_lightning.settings.guide import parse
from tests.refusals import refuses
from tests.unit.evaluation.made_up import split_of


def test_the_size_of_a_run_is_that_of_its_model(finished_run: Path) -> None:
    run = RunDir(finished_run)
    mixture, size = MixtureASR.load(run.mixture_files), run_size(run)
    assert size.num_expert_parameters == sum(one.numel() for one in mixture.experts.expert_parameters())
    assert size.num_gate_parameters == sum(one.numel() for one in mixture.gate.parameters())
    assert size.num_trained == size.num_expert_parameters + size.num_gate_parameters


def test_the_lora_of_equal_size_has_at_least_as_many_parameters_and_with_a_rank_less_fewer(finished_run: Path) -> None:
    size = run_size(RunDir(finished_run))
    per_rank = size.num_expert_parameters // size.experts.total_rank
    assert (size.equal_rank - 1) * per_rank < size.num_trained <= size.equal_rank * per_rank


def test_a_single_lora_is_a_pipeline_of_one_expert_whose_scale_is_the_mixtures() -> None:
    options = parse([*one_lora(rank=70, scale=2.0), "--dataset-root", "demo"])
    commands = stage_commands(options, RunDir(options.run_dir))
    settings = dict(pairwise(commands["experts"]))
    assert (settings["--model.rank"], settings["--model.alpha"]) == ("70", "140")
    assert settings["--model.shared_rank"] == "0"
    assert dict(pairwise(commands["clustering"]))["--num-experts"] == "1"


def test_the_true_groups_are_rungs_where_a_field_says_them(finished_run: Path) -> None:
    size = run_size(RunDir(finished_run))
    with_field = [rung.name for rung in rungs([MIXTURE, *trained_rows(size, "accent")])]
    without = [rung.name for rung in rungs([MIXTURE, *trained_rows(size, None)])]
    assert set(with_field) - set(without) == {"label", "label_gate"}
    assert [row.name for row in trained_rows(size, None, ["random"])] == ["lora_equal", "random"]


def test_rates_are_tuned_as_multiples_of_what_the_run_would_have_taken() -> None:
    rates = base_rates({"moe.model.optimizer.init_args.lr": "0.003"})
    assert rates == {"experts": 1e-4, "moe": 0.003}
    assert rate_flags(rates, 2.0)[1] == "--set=moe.model.optimizer.init_args.lr=0.006"


def test_the_best_rate_is_the_one_with_the_fewest_errors_and_of_equals_the_one_nearest_to_the_configs() -> None:
    assert best_factor({0.5: 0.30, 1.0: 0.25, 2.0: 0.2}) == 2.0
    assert best_factor({0.25: 0.2, 1.0: 0.2, 2.0: 0.2}) == 1.0


@pytest.mark.parametrize("factors", [[], [0.0], [1.0, -2.0], [float("inf")]])
def test_factors_that_are_no_rates_are_refused(factors: list[float]) -> None:
    with refuses("setting.range", "--lr-factors"):
        check_factors(factors)


def made_up_ladder(mixture: str, lora: str) -> Results:
    """Results in which two rungs are systems that the tests make up."""
    utterances, systems = split_of(64)
    texts = {
        "backbone": systems["bad"],
        "lora_equal": systems[lora],
        "mixture": systems[mixture],
        "best_expert": systems["good"],
    }
    pairs = [("mixture", name) for name in ("lora_equal", "backbone", "best_expert")]
    results = score_systems(utterances, texts, pairs, settings=ScoreSettings(num_resamples=500))
    gates = {one.id: [0.5, 0.5, 0.0] if mixture == "bad" else [0.4, 0.3, 0.3] for one in utterances}
    scores = {name: replace(one, rate_by_seed=[one.rate]) for name, one in results.systems.items()}
    return replace(results, systems=scores, seeds=[42], experts=expert_usage(gates, {}))


def with_rate(results: Results, system: str, rate: float) -> Results:
    """The same results, but for the rate of one system."""
    return replace(results, systems={**results.systems, system: replace(results.systems[system], rate=rate)})


def test_a_mixture_with_fewer_errors_beats_the_lora_and_reaches_all_of_the_oracles_lead() -> None:
    results = made_up_ladder(mixture="good", lora="bad")
    verdict = judge_ladder(results)
    assert (verdict.answer, verdict.is_warning) == ("better", False)
    assert recovered(results, "best_expert") == 1.0
    assert any("100 % of its lead" in text for text in verdict.details)
    behind = with_rate(results, "mixture", 0.9)
    assert any("none of its lead" in text for text in judge_ladder(behind).details)


def test_a_mixture_with_more_errors_is_called_worse_and_a_dead_expert_is_named() -> None:
    verdict = judge_ladder(made_up_ladder(mixture="bad", lora="good"))
    assert (verdict.answer, verdict.is_warning) == ("worse", True)
    assert any("Dead experts: 2 of 3" in text for text in verdict.details)


def test_where_nothing_differs_nothing_is_established() -> None:
    results = made_up_ladder(mixture="good", lora="good")
    verdict = judge_ladder(results)
    assert (verdict.answer, verdict.is_warning) == ("not established", True)
    assert recovered(results, "best_expert") is None


def test_a_broken_backbone_is_a_warning_and_no_group_is_compared_with_it() -> None:
    results = with_rate(made_up_ladder(mixture="good", lora="bad"), "backbone", 1.5)
    verdict = judge_ladder(results)
    assert verdict.answer == "better", "the LoRA is in order"
    assert any("150.0 %" in text for text in verdict.details)
    assert judge_ladder(with_rate(results, "lora_equal", 1.2)).answer == "not compared"
