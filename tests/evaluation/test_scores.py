"""Error rates against jiwer and against counting by hand."""

import random
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import pytest

from moe_lightning.corpus import Utterance
from moe_lightning.embedding_store import EmbeddingStore, StoreEntry
from moe_lightning.errors import InputError
from moe_lightning.evaluation.decode import Decoded
from moe_lightning.evaluation.evaluate import manifest_fields, score_systems
from moe_lightning.evaluation.scores import score, score_groups
from moe_lightning.evaluation.table import shown_fields
from moe_lightning.run_inputs import RunInputs
from moe_lightning.soft_labels import SoftLabels


@pytest.mark.parametrize(
    ("reference", "hypothesis", "wer", "cer"),
    [
        ("a b c", "a b c", 0.0, 0.0),
        ("a b c", "a x c", 1 / 3, 1 / 5),
        ("a b c", "a c", 1 / 3, 2 / 5),
        ("a b", "a b b b", 1.0, 4 / 3),
        ("ab cd", "", 1.0, 1.0),
    ],
)
def test_one_utterance_by_hand(reference: str, hypothesis: str, wer: float, cer: float) -> None:
    errors = score([reference], [hypothesis])
    assert errors.wer == pytest.approx(wer, abs=1e-6)
    assert errors.cer == pytest.approx(cer, abs=1e-6)
    assert errors.words == len(reference.split())


def test_the_rate_of_many_is_errors_over_words_not_a_mean_of_rates() -> None:
    errors = score(["a", "a b c d e f g h i"], ["x", "a b c d e f g h i"])
    assert errors.wer == pytest.approx(0.1)
    assert errors.words == 10


def test_many_utterances_are_scored_as_jiwer_scores_them() -> None:
    rng = random.Random(0)
    references = [" ".join(rng.choices("abcdef", k=rng.randint(1, 9))) for _ in range(50)]
    hypotheses = [" ".join(rng.choices("abcdef", k=rng.randint(0, 9))) for _ in range(50)]
    errors = score(references, hypotheses)
    assert errors.wer == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-6)
    assert errors.cer == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-6)


def test_a_reference_without_words_cannot_be_scored() -> None:
    for references in ([], ["a", ""]):
        with pytest.raises(ValueError, match="needs at least one word"):
            score(references, ["x"] * len(references))


def test_groups_are_scored_apart_the_largest_first() -> None:
    references, hypotheses = ["a b", "a b", "c"], ["a x", "a b", "x"]
    groups = score_groups(references, hypotheses, {"accent": ["north", "north", "south"]})["accent"]
    assert list(groups) == ["north", "south"]
    assert groups["north"] == {"wer": 0.25, "cer": pytest.approx(1 / 6, abs=1e-6), "words": 4, "utterances": 2}
    assert (groups["south"]["wer"], groups["south"]["words"]) == (1.0, 1)


def test_the_groups_of_a_field_add_up_to_the_whole() -> None:
    rng = random.Random(1)
    references = [" ".join(rng.choices("abc", k=4)) for _ in range(30)]
    hypotheses = [" ".join(rng.choices("abc", k=4)) for _ in range(30)]
    groups = score_groups(references, hypotheses, {"speaker": rng.choices("xyz", k=30)})["speaker"]
    assert sum(group["words"] for group in groups.values()) == 120
    errors = sum(group["wer"] * group["words"] for group in groups.values())
    assert errors / 120 == pytest.approx(score(references, hypotheses).wer, abs=1e-5)


def utterance(number: int, text: str, **fields: str) -> Utterance:
    return Utterance(f"u{number}", Path(f"/{number}.wav"), 0.0, 1.0, text, f"s{number % 2}", dict(fields))


def inputs(num_utterances: int) -> RunInputs:
    """Two experts; the first three utterances are of expert 1."""
    ids = tuple(f"u{number}" for number in range(num_utterances))
    probs_NE = np.array([[0.1, 0.9] if number < 3 else [0.8, 0.2] for number in range(num_utterances)], np.float32)
    entries = tuple(StoreEntry(id_, "s", "", "", "x.npy", row, "test") for row, id_ in enumerate(ids))
    return RunInputs(SoftLabels(ids, probs_NE), EmbeddingStore(entries, np.zeros((num_utterances, 2)), None))


def test_results_have_the_documented_shape_and_leave_out_references_without_words() -> None:
    utterances = [utterance(number, "one two", accent="ab"[number % 2]) for number in range(6)]
    utterances.append(utterance(6, " ... ", accent="a"))
    decoded = [Decoded(f"u{n}", int(n < 3), "one", "one two" if n else "two") for n in range(7)]
    results = score_systems(decoded, utterances, inputs(7))
    backbone, mixture = results["systems"]["backbone"], results["systems"]["mixture"]
    assert (backbone["wer"], backbone["words"]) == (0.5, 12)
    assert mixture["wer"] == pytest.approx(1 / 12, abs=1e-6)
    assert mixture["groups"]["accent"]["b"] == {"wer": 0.0, "cer": 0.0, "words": 6, "utterances": 3}
    assert set(mixture["groups"]) == {"cluster", "accent", "speaker"}
    assert mixture["groups"]["cluster"]["1"]["utterances"] == 3
    assert results["experts"]["usage"] == [0.5, 0.5]
    assert results["left_out_without_words"] == 1


def test_texts_are_normalised_before_they_are_compared() -> None:
    decoded = [Decoded(f"u{number}", 0, "ONE, two!", "one  two") for number in range(4)]
    results = score_systems(decoded, [utterance(number, "One two.") for number in range(4)], inputs(4))
    assert [results["systems"][name]["wer"] for name in ("backbone", "mixture")] == [0.0, 0.0]


def test_a_test_split_without_any_word_is_refused() -> None:
    with pytest.raises(InputError, match="no transcript of the test split has a word"):
        score_systems([Decoded("u0", 0, "a", "b")], [utterance(0, "...")], inputs(1))


def test_fields_that_make_no_groups_are_left_out() -> None:
    utterances = [utterance(n, "a", accent="ab"[n % 2], sentence=str(n), corpus="one") for n in range(8)]
    assert set(manifest_fields(utterances)) == {"accent", "speaker"}


def test_an_utterance_without_a_field_is_of_the_group_unknown() -> None:
    utterances = [utterance(n, "a", **({"accent": "north"} if n % 2 else {})) for n in range(8)]
    assert manifest_fields(utterances)["accent"] == ["unknown", "north"] * 4


def test_the_table_shows_the_clusters_and_the_most_telling_fields_first() -> None:
    groups = {name: {"x": {}, "y": {}} for name in ("cluster", "gender", "take", "accent", "speaker")}
    groups["speaker"] = {str(number): {} for number in range(40)}
    assert shown_fields(groups) == ["cluster", "accent", "gender", "take"]
    assert all(one != other for one, other in pairwise(shown_fields(groups)))
