"""Scores of any systems on the same utterances."""

from typing import get_args

import jiwer
import pytest

from moe_lightning.data.normaliser import Normaliser
from moe_lightning.evaluation.fields import DURATION, group_columns, shown_fields
from moe_lightning.evaluation.systems import score_systems
from moe_lightning.evaluation.usage import expert_usage, normalised_entropy
from moe_lightning.reports.results import GroupScores, Results
from moe_lightning.settings.evaluation import NormaliserChoice, ScoreSettings
from tests.refusals import refuses
from tests.unit.evaluation.made_up import random_texts, split_of, utterance

FAST = ScoreSettings(num_resamples=500)
ENGLISH = ("en", "en-US", "en_GB", "English")


def by_language(results: Results) -> list[GroupScores]:
    """Scores of the English utterances, however their language is written, and of the French ones."""
    groups = results.systems["x"].groups["language"]
    english = [groups[name] for name in ENGLISH]
    assert len({group.rate for group in english}) == 1
    return [english[0], groups["fr"]]


def test_the_rates_are_jiwers_overall_and_in_every_group() -> None:
    utterances, systems = split_of(60)
    scored = score_systems(utterances, systems, settings=FAST).systems["bad"]
    of = {one.id: one for one in utterances}
    references, hypotheses = [of[id_].text for id_ in systems["bad"]], list(systems["bad"].values())
    assert scored.wer == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-6)
    assert scored.cer == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-6)
    for accent, group in scored.groups["accent"].items():
        rows = [one for one in utterances if one.fields["accent"] == accent]
        words = jiwer.process_words([one.text for one in rows], [systems["bad"][one.id] for one in rows])
        assert group.wer == pytest.approx(words.wer, abs=1e-6)
        assert (group.substitutions, group.deletions, group.insertions) == (
            words.substitutions,
            words.deletions,
            words.insertions,
        )
        assert (group.utterances, group.speakers) == (30, 8)


def test_the_groups_of_a_field_add_up_to_the_whole() -> None:
    utterances, systems = split_of(60)
    scored = score_systems(utterances, systems, settings=FAST).systems["bad"]
    for groups in scored.groups.values():
        for key in ("words", "substitutions", "deletions", "insertions"):
            assert sum(getattr(group, key) for group in groups.values()) == getattr(scored, key)


def test_the_order_of_the_utterances_changes_nothing() -> None:
    utterances, systems = split_of(40)
    straight = score_systems(utterances, systems, [("good", "bad")], settings=FAST)
    backwards = {name: dict(reversed(texts.items())) for name, texts in systems.items()}
    assert score_systems(utterances[::-1], backwards, [("good", "bad")], settings=FAST) == straight


def test_raw_texts_are_compared_as_they_are_and_normalised_ones_by_what_is_said() -> None:
    utterances = [utterance(number, "One  two.") for number in range(4)]
    scored = score_systems(utterances, {"x": {one.id: "ONE two" for one in utterances}}, settings=FAST)
    assert scored.systems["x"].wer == 0
    assert scored.systems["x"].raw.wer == 1
    assert scored.normaliser.choice == "auto"
    assert "basic" in scored.normaliser.name


def test_every_utterance_is_normalised_by_its_language() -> None:
    utterances = [
        *(utterance(number, "twenty one colours", language=language) for number, language in enumerate(ENGLISH)),
        *(utterance(number, "vingt et un", language="fr") for number in range(4, 8)),
    ]
    systems = {"x": {one.id: "21" if one.language == "fr" else "21 colors" for one in utterances}}
    of = {
        choice: score_systems(utterances, systems, settings=ScoreSettings(500, by=("language",), normaliser=choice))
        for choice in get_args(NormaliserChoice)
    }
    rates = {choice: [group.rate for group in by_language(of[choice])] for choice in get_args(NormaliserChoice)}
    assert rates == {"auto": [0, 1], "basic": [1, 1], "english": [0, 1]}
    assert [of[choice].normaliser.choice for choice in get_args(NormaliserChoice)] == list(get_args(NormaliserChoice))
    names = [of[choice].normaliser.name for choice in get_args(NormaliserChoice)]
    assert all("transformers" in name for name in names)
    assert all(name in names[0] for name in names[1:]), "auto names both"


def test_an_utterance_of_an_unknown_language_is_normalised_by_the_basic_rules() -> None:
    utterances = [utterance(number, "twenty one cats") for number in range(4)]
    systems = {"x": {one.id: "21 cats" for one in utterances}}
    assert score_systems(utterances, systems, settings=FAST).systems["x"].rate > 0
    english = score_systems(utterances, systems, settings=ScoreSettings(500, normaliser="english"))
    assert english.systems["x"].rate == 0


def test_a_language_without_spaces_is_scored_by_characters() -> None:
    utterances = [utterance(number, "今天天气很好", speaker=f"s{number}", language="zh-CN") for number in range(4)]
    systems = {"x": {one.id: "今天天汽 很好。" for one in utterances}}
    scored = score_systems(utterances, systems, settings=FAST)
    one = scored.systems["x"]
    assert scored.metric.short == one.metric == "CER"
    assert one.rate == one.cer == pytest.approx(1 / 6, abs=1e-6)
    assert (one.length, one.substitutions, one.wer) == (24, 4, 2.0)


def test_languages_of_both_kinds_together_are_counted_each_in_its_unit() -> None:
    utterances = [utterance(number, "今天天气", language="zh") for number in range(4)]
    utterances += [utterance(number, "one two", language="en") for number in range(4, 8)]
    systems = {"x": {one.id: "今天天汽" if one.language == "zh" else "one two two" for one in utterances}}
    scored = score_systems(utterances, systems, settings=ScoreSettings(500, by=("language",)))
    one = scored.systems["x"]
    assert one.rate == pytest.approx((4 + 4) / (16 + 8), abs=1e-6)
    groups = one.groups["language"]
    assert {language: (group.metric, group.rate) for language, group in groups.items()} == {
        "zh": ("CER", 0.25),
        "en": ("WER", 0.5),
    }
    assert scored.metric.short not in ("WER", "CER")


def test_a_comparison_says_how_much_how_sure_and_for_whom() -> None:
    utterances, systems = split_of(80)
    results = score_systems(utterances, systems, [("good", "bad")], settings=FAST)
    found = results.comparisons["good vs bad"]
    assert found.relative_improvement == 1.0
    assert found.probability_better == 1.0
    assert found.over == "speakers"
    assert found.over_utterances.probability_better == 1.0
    assert found.groups["accent"]["a"].probability_better == 0.5  # both without errors
    assert found.groups["accent"]["b"].probability_better == 1.0
    low, high = results.systems["bad"].interval
    assert low < results.systems["bad"].wer < high


def test_the_utterances_that_differ_most_come_first() -> None:
    utterances = [utterance(number, "a b c d") for number in range(4)]
    texts = {"u000": "a b c d", "u001": "x b c d", "u002": "x y z d", "u003": "a b c d"}
    other = {"u000": "a b c d", "u001": "a b c d", "u002": "a b c d", "u003": "x y z w"}
    found = score_systems(utterances, {"one": texts, "two": other}, [("one", "two")], settings=FAST)
    assert found.comparisons["one vs two"].most_worsened == ["u002", "u001"]
    assert found.comparisons["one vs two"].most_improved == ["u003"]


def test_a_field_of_very_many_values_has_scores_and_no_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_lightning.evaluation.systems.MOST_COMPARED", 15)
    utterances, systems = split_of(80)
    results = score_systems(utterances, systems, [("good", "bad")], settings=FAST)
    assert len(results.systems["good"].groups["speaker"]) == 16
    assert "speaker" not in results.comparisons["good vs bad"].groups
    assert "accent" in results.comparisons["good vs bad"].groups


def test_the_worst_group_and_the_spread_pass_over_groups_of_a_few_words() -> None:
    utterances = [utterance(number, "a b c d e f g h", accent="ab"[number % 2]) for number in range(10)]
    utterances.append(utterance(10, "a", accent="c"))
    texts = {one.id: one.text if one.fields["accent"] == "a" else "x" for one in utterances}
    scored = score_systems(utterances, {"x": texts}, settings=FAST).systems["x"]
    assert scored.groups["accent"]["c"].wer == 1
    assert scored.worst_group["accent"] == ("b", 1.0)
    assert scored.spread["accent"] == 1.0


def test_one_speaker_is_drawn_by_utterance_and_one_utterance_not_at_all() -> None:
    utterances = [utterance(number, "a b", speaker="s" if number else "t", accent="xyy"[number]) for number in range(3)]
    systems = {"one": {one.id: "a x" for one in utterances}}
    groups = score_systems(utterances, systems, settings=ScoreSettings(500, by=("accent",))).systems["one"].groups
    assert groups["accent"]["y"].interval_over == "utterances"
    assert groups["accent"]["x"].interval is None


def test_references_without_words_are_left_out_and_counted() -> None:
    utterances = [*(utterance(number, "one two") for number in range(4)), utterance(4, " ... ")]
    systems = {"x": {one.id: "one" for one in utterances}}
    results = score_systems(utterances, systems, settings=FAST)
    assert (results.utterances, results.left_out_without_words) == (4, 1)
    assert results.systems["x"].wer == 0.5


def test_references_without_any_word_are_refused() -> None:
    with refuses("transcript.no-words", 1):
        score_systems([utterance(0, "...")], {"x": {"u000": "a"}}, settings=FAST)


@pytest.mark.parametrize(("texts", "odd"), [({"u000": "a"}, "u001"), (dict.fromkeys(("u000", "u001", "u9"), ""), "u9")])
def test_systems_of_other_utterances_are_refused(texts: dict[str, str], odd: str) -> None:
    utterances = [utterance(number, "a") for number in range(2)]
    with refuses("corpus.other-utterances", odd):
        score_systems(utterances, {"good": {"u000": "a", "u001": "a"}, "bad": texts}, settings=FAST)


@pytest.mark.parametrize(
    ("refusal", "settings"),
    [
        (("setting.range", "--num-resamples 10"), {"num_resamples": 10}),
        (("setting.range", "--seed -1"), {"seed": -1}),
        (("setting.choice", "--normaliser none"), {"normaliser": "none"}),
    ],
)
def test_a_setting_out_of_its_range_is_refused(refusal: tuple[str, ...], settings: dict) -> None:
    with refuses(*refusal):
        ScoreSettings(**settings)


# groups


def test_fields_that_make_no_groups_are_left_out() -> None:
    utterances = [utterance(n, "a", accent="ab"[n % 2], sentence=str(n), corpus="one") for n in range(8)]
    assert set(group_columns(utterances)) == {"accent", "speaker"}


def test_bookkeeping_makes_no_groups_unless_it_is_asked_for() -> None:
    utterances = [utterance(n, "a", accent="ab"[n % 2], license="xy"[n % 2], source="uv"[n % 2]) for n in range(8)]
    assert set(group_columns(utterances)) == {"accent", "speaker"}
    assert list(group_columns(utterances, ["license"])) == ["license"]


def test_an_utterance_without_a_field_is_of_the_group_unknown() -> None:
    utterances = [utterance(n, "a", **({"accent": "north"} if n % 2 else {})) for n in range(8)]
    assert group_columns(utterances)["accent"] == ["unknown", "north"] * 4


def test_lengths_make_slots_in_their_order() -> None:
    utterances = [utterance(n, "a b", seconds=(25.0, 1.0, 3.0)[n % 3]) for n in range(12)]
    assert group_columns(utterances)[DURATION][:3] == ["20 s and more", "under 2 s", "2 to 5 s"]
    systems = {"x": {one.id: "a b" for one in utterances}}
    groups = score_systems(utterances, systems, settings=FAST).systems["x"].groups
    assert list(groups[DURATION]) == ["under 2 s", "2 to 5 s", "20 s and more"]


def test_a_field_that_is_asked_for_is_taken_and_one_that_is_not_there_is_refused() -> None:
    utterances = [utterance(n, "a", sentence=str(n)) for n in range(8)]
    assert list(group_columns(utterances, ["sentence"])) == ["sentence"]
    with refuses("corpus.no-field", "sentenc"):
        group_columns(utterances, ["sentenc"])


def test_the_most_telling_fields_are_shown_first() -> None:
    groups = {name: {"x": {}, "y": {}} for name in ("cluster", "gender", "take", "Etiology", "speaker")}
    groups["speaker"] = {str(number): {} for number in range(40)}
    assert shown_fields(groups) == ["Etiology", "gender", "take"]


# experts


def test_the_usage_counts_utterances_weights_and_fields() -> None:
    gates = {"u0": [1.0, 0.0, 0.0], "u1": [0.6, 0.4, 0.0], "u2": [0.3, 0.7, 0.0], "u3": [0.5, 0.5, 0.0]}
    usage = expert_usage(gates, {"accent": {"u0": "a", "u1": "b", "u2": "b", "u3": "b"}})
    assert usage.usage == [0.75, 0.25, 0.0]
    assert usage.weight == [0.6, 0.4, 0.0]
    assert usage.dead == [2]
    assert usage.by_field["accent"] == {"a": [1, 0, 0], "b": [2, 1, 0]}


@pytest.mark.parametrize(("gate", "entropy"), [([1.0, 0.0], 0.0), ([0.5, 0.5], 1.0), ([0.25] * 4, 1.0), ([1.0], 0.0)])
def test_the_entropy_is_0_for_one_expert_and_1_for_all_alike(gate: list[float], entropy: float) -> None:
    assert normalised_entropy(gate) == pytest.approx(entropy)


def test_random_systems_are_scored_in_every_text_form() -> None:
    utterances = [utterance(number, text) for number, text in enumerate(random_texts(3, 20))]
    systems = {"x": {one.id: text for one, text in zip(utterances, random_texts(4, 20, 0), strict=True)}}
    scored = score_systems(utterances, systems, settings=FAST).systems["x"]
    references = [Normaliser()(one.text, None) for one in utterances]
    assert scored.wer == pytest.approx(jiwer.wer(references, list(systems["x"].values())), abs=1e-6)
    assert scored.raw.wer == scored.wer
