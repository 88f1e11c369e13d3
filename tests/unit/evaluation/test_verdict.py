"""The sentences that a result is told in, and the table."""

from dataclasses import replace
from typing import Any

import pytest

from moe_lightning.evaluation.systems import score_systems
from moe_lightning.evaluation.table import print_results
from moe_lightning.evaluation.verdict import groups_worse, judge
from moe_lightning.reports.results import Decoding, Results, Usage, Verdict
from moe_lightning.settings.evaluation import ScoreSettings
from tests.unit.evaluation.made_up import split_of, utterance

FAST = ScoreSettings(num_resamples=500)
DECODING = Decoding("cpu", num_threads=1, audio_seconds=12.0, memory_bytes=1)


def results_of(system: str, baseline: str, **more: Any) -> Results:
    """Of the made-up systems, one of which is better."""
    utterances, systems = split_of(80)
    named = {"mixture": systems[system], "backbone": systems[baseline]}
    results = score_systems(utterances, named, [("mixture", "backbone")], settings=FAST)
    return replace(results, **{"split": "test", "experts": Usage(usage=[0.6, 0.4]), **more})


def test_a_clear_lead_is_called_one() -> None:
    verdict = judge(results_of("good", "bad"))
    assert verdict.answer == "better"
    assert "100 %" in verdict.sentence
    assert [detail.partition(":")[0] for detail in verdict.details] == [
        "None of the 2 groups by accent gets worse.",
        "Compared with the bare model only",
    ]
    assert not verdict.is_warning


def test_a_loss_is_called_one_and_the_groups_that_lose_are_named() -> None:
    results = results_of("bad", "good")
    verdict = judge(results)
    assert (verdict.answer, verdict.is_warning) == ("worse", True)
    (worse,) = groups_worse(results, results.comparisons["mixture vs backbone"])
    assert (worse.field, worse.value, worse.before, worse.is_sure) == ("accent", "b", 0.0, True)
    assert "accent b 0.0 to " in verdict.details[0]


def test_no_difference_is_not_called_a_lead() -> None:
    verdict = judge(results_of("bad", "bad"))
    assert (verdict.answer, verdict.is_warning) == ("not established", True)


def test_a_dead_expert_is_a_warning() -> None:
    verdict = judge(results_of("good", "bad", experts=Usage(usage=[1.0, 0.0], dead=[1])))
    assert (verdict.answer, verdict.is_warning) == ("better", True)
    assert verdict.details[1].startswith("Dead: expert 1 of 2")


def test_speakers_heard_in_training_are_mentioned() -> None:
    assert "3 speakers" in judge(results_of("good", "bad", shared_speakers=3)).details[-1]


def of_speakers(num_speakers: int) -> Results:
    """A mixture without errors, and a backbone that gets two of three words wrong."""
    utterances = [utterance(number, "a b c", speaker=f"s{number % num_speakers}") for number in range(40)]
    systems = {"mixture": {one.id: "a b c" for one in utterances}, "backbone": {one.id: "a" for one in utterances}}
    return score_systems(utterances, systems, [("mixture", "backbone")], settings=FAST)


@pytest.mark.parametrize(("num_speakers", "answer"), [(1, "not established"), (9, "not established"), (10, "better")])
def test_with_fewer_than_ten_speakers_nothing_is_established(num_speakers: int, answer: str) -> None:
    assert judge(of_speakers(num_speakers)).answer == answer


def test_one_utterance_is_no_evidence() -> None:
    systems = {"mixture": {"u000": "a"}, "backbone": {"u000": "b"}}
    results = score_systems([utterance(0, "a")], systems, [("mixture", "backbone")], settings=FAST)
    assert judge(results).answer == "not established"


def test_a_backbone_outside_its_window_is_compared_with_nothing() -> None:
    def judged(window: float) -> Verdict:
        results = of_speakers(20)
        systems = dict(results.systems, backbone=replace(results.systems["backbone"], window=window))
        return judge(replace(results, systems=systems, decoding=DECODING._replace(own_window=30.0)))

    assert judged(30.0).answer == "better"
    refused = judged(0.0)
    assert (refused.answer, refused.is_warning, refused.details) == ("not compared", True, [])


def test_a_backbone_with_more_errors_than_words_is_a_fault_and_no_baseline() -> None:
    utterances = [utterance(number, "a b c", speaker=f"s{number}") for number in range(20)]
    systems = {
        "mixture": {one.id: "a b c" for one in utterances},
        "backbone": {one.id: "a " * 20 for one in utterances},
    }
    verdict = judge(score_systems(utterances, systems, [("mixture", "backbone")], settings=FAST))
    assert (verdict.answer, verdict.is_warning) == ("not compared", True)
    assert "633.3 %" in verdict.sentence


def test_figures_where_the_references_have_words_are_counted_where_they_cannot_be_reconciled() -> None:
    utterances = [utterance(number, "vingt cinq", speaker=f"s{number}", language="fr") for number in range(11)]
    utterances += [utterance(number, "twenty five", speaker=f"s{number}", language="en") for number in range(11, 22)]
    systems = {"mixture": {one.id: one.text for one in utterances}, "backbone": {one.id: "25" for one in utterances}}
    results = score_systems(utterances, systems, [("mixture", "backbone")], settings=FAST)
    counts = {name: one.figures_for_words for name, one in results.systems.items()}
    assert counts == {"mixture": 0, "backbone": 11}
    assert results.systems["backbone"].groups["language"]["en"].rate == 0
    verdict = judge(results)
    assert (verdict.answer, verdict.is_warning) == ("better", True), "that may be the writing alone"
    assert " 11" in verdict.details[-2]


@pytest.mark.parametrize("accent", ["north", "[bold]", "[/x]"])
def test_the_table_has_every_group_and_the_verdict(accent: str, capsys: pytest.CaptureFixture[str]) -> None:
    utterances = [
        utterance(number, "a b c", speaker=f"s{number}", accent=accent if number % 2 else "south")
        for number in range(12)
    ]
    systems = {"mixture": {one.id: "a b c" for one in utterances}, "backbone": {one.id: "a" for one in utterances}}
    results = score_systems(utterances, systems, [("mixture", "backbone")], settings=FAST)
    results = replace(results, split="test", experts=Usage(usage=[0.6, 0.4]))
    verdict = judge(results)
    print_results(replace(results, verdict=verdict))
    printed = capsys.readouterr().out
    assert f"  {accent} " in printed
    assert "66.7 [67, 67]" in printed
    assert "-100 %" in printed
    assert "0: 60 %  1: 40 %" in printed
    assert verdict.sentence in printed
    assert results.normaliser.name in " ".join(printed.split())


def test_a_gate_that_heard_more_than_an_utterance_is_mentioned() -> None:
    alone, together = (
        judge(results_of("good", "bad", decoding=DECODING._replace(gate_by=gate_by))).details
        for gate_by in ("utterance", "speaker")
    )
    (more,) = set(together) - set(alone)
    assert more.startswith("The gate heard all that a test speaker says")
