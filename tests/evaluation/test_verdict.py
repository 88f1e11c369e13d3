"""The sentences that a result is told in, and the table."""

from typing import Any

import pytest

from moe_lightning.evaluation.systems import ScoreSettings, score_systems
from moe_lightning.evaluation.table import print_results
from moe_lightning.evaluation.verdict import judge
from tests.evaluation.made_up import split_of, utterance

FAST = ScoreSettings(num_resamples=500)


def results_of(system: str, baseline: str, **more: Any) -> dict[str, Any]:
    """Of the made-up systems, one of which is better."""
    utterances, systems = split_of(80)
    named = {"mixture": systems[system], "backbone": systems[baseline]}
    results = score_systems(utterances, named, [("mixture", "backbone")], settings=FAST)
    return {**results, "split": "test", "experts": {"usage": [0.6, 0.4], "dead": []}, **more}


def test_a_clear_lead_is_called_one() -> None:
    verdict = judge(results_of("good", "bad"))
    assert verdict.sentence.startswith("The mixture beats the bare backbone: 0.0 % of the words are wrong instead of")
    assert "100 % fewer errors (95 % interval 100 to 100 %); in 100 % of the draws of speakers" in verdict.sentence
    assert verdict.details == ["None of the 2 groups by accent gets worse."]
    assert not verdict.is_warning


def test_a_loss_is_called_one_and_the_groups_that_lose_are_named() -> None:
    verdict = judge(results_of("bad", "good"))
    assert verdict.sentence.startswith("The mixture is worse than the bare backbone: ")
    assert verdict.is_warning
    assert verdict.details[0].startswith("Of the 2 groups by accent, 1 gets worse: accent b 0.0 to ")


def test_no_difference_is_not_called_a_lead() -> None:
    verdict = judge(results_of("bad", "bad"))
    assert verdict.sentence.startswith("It is not established that the mixture beats the bare backbone: ")
    assert "% of the words wrong, and as many in every draw of speakers." in verdict.sentence
    assert verdict.is_warning


def test_a_dead_expert_is_a_warning() -> None:
    verdict = judge(results_of("good", "bad", experts={"usage": [1.0, 0.0], "dead": [1]}))
    assert verdict.details[-1] == "Dead: expert 1 of 2 gets under 0.5 % of the gate's weight."
    assert verdict.is_warning


def test_speakers_heard_in_training_are_mentioned() -> None:
    assert (
        "3 speakers of the test split were heard in training"
        in judge(results_of("good", "bad", shared_speakers=3)).details[-1]
    )


def test_two_speakers_are_called_few() -> None:
    utterances = [utterance(number, "a b c") for number in range(12)]
    systems = {"mixture": {one.id: "a b c" for one in utterances}, "backbone": {one.id: "a" for one in utterances}}
    results = score_systems(utterances, systems, [("mixture", "backbone")], settings=FAST)
    assert "2 speakers; others may be served differently" in judge(results).details[-1]


def test_one_utterance_is_no_evidence() -> None:
    systems = {"mixture": {"u000": "a"}, "backbone": {"u000": "b"}}
    results = score_systems([utterance(0, "a")], systems, [("mixture", "backbone")], settings=FAST)
    assert judge(results).sentence.startswith("One utterance says nothing")


@pytest.mark.parametrize("accent", ["north", "[bold]", "[/x]"])
def test_the_table_has_every_group_and_the_verdict(accent: str, capsys: pytest.CaptureFixture[str]) -> None:
    utterances = [utterance(number, "a b c", accent=accent if number % 2 else "south") for number in range(12)]
    systems = {"mixture": {one.id: "a b c" for one in utterances}, "backbone": {one.id: "a" for one in utterances}}
    results = score_systems(utterances, systems, [("mixture", "backbone")], settings=FAST)
    results |= {"split": "test", "experts": {"usage": [0.6, 0.4], "dead": []}}
    print_results(results | {"verdict": judge(results)._asdict()})
    printed = capsys.readouterr().out
    assert f"  {accent} " in printed
    assert "66.7 [67, 67]" in printed
    assert "-100 %" in printed
    assert "utterances by expert   0: 60 %  1: 40 %" in printed
    assert "The mixture beats the bare backbone" in printed


def test_a_gate_that_heard_more_than_an_utterance_is_mentioned() -> None:
    alone, together = (
        judge(results_of("good", "bad", decoding={"gate_by": gate_by})).details for gate_by in ("utterance", "speaker")
    )
    assert together[: len(alone)] == alone
    assert together[-1].startswith("The gate heard all that a test speaker says")
