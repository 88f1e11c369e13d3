from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from moe_lightning.corpus.splits import complete_splits, largest_remainder, sample_handful, sample_percent
from tests.corpora import utterances_of
from tests.refusals import refuses


def speakers_of(splits):
    return {split: {utterance.speaker for utterance in utterances} for split, utterances in splits.items()}


@given(num_train=st.integers(3, 60), num_dev=st.integers(0, 12), num_test=st.integers(0, 3), seed=st.integers(0, 9))
def test_completed_splits_share_no_speaker_and_lose_no_utterance(num_train, num_dev, num_test, seed):
    given_splits = {
        "train": utterances_of({f"tr{number}": 1 + number % 4 for number in range(num_train)}),
        "dev": utterances_of({f"de{number}": 2 for number in range(num_dev)}),
        "test": utterances_of({f"te{number}": 2 for number in range(num_test)}),
    }
    splits = complete_splits(given_splits, seed)
    assert list(splits) == ["train", "dev", "test"]
    speakers = speakers_of(splits)
    assert all(speakers.values())
    assert sum(len(names) for names in speakers.values()) == num_train + num_dev + num_test
    ids = Counter(utterance.id for utterances in splits.values() for utterance in utterances)
    assert set(ids.values()) == {1}
    assert ids.total() == sum(len(utterances) for utterances in given_splits.values())


def test_dev_is_divided_when_it_has_two_speakers_or_more():
    splits = complete_splits({"train": utterances_of({"a": 3}), "dev": utterances_of({"b": 2, "c": 2, "d": 2})}, 42)
    assert speakers_of(splits)["train"] == {"a"}
    assert sorted(len(names) for names in speakers_of(splits).values()) == [1, 1, 2]


def test_a_tenth_of_the_training_speakers_is_held_out_for_each_missing_split():
    splits = complete_splits({"train": utterances_of({f"s{number}": 2 for number in range(50)})}, 42)
    assert {split: len(names) for split, names in speakers_of(splits).items()} == {"train": 40, "dev": 5, "test": 5}


def test_the_same_seed_gives_the_same_splits_and_another_seed_others():
    train = {"train": utterances_of({f"s{number}": 2 for number in range(30)})}
    assert complete_splits(train, 1) == complete_splits(train, 1)
    assert complete_splits(train, 1) != complete_splits(train, 2)


def test_a_speaker_in_two_splits_is_refused_by_name_and_with_the_flag():
    splits = {"train": utterances_of({"ann": 2, "bob": 1}), "dev": utterances_of({"ann": 1, "eve": 1})}
    with refuses("corpus.shared-speakers", "1 speaker is"):
        complete_splits(splits, 42)
    assert speakers_of(complete_splits(splits, 42, allow_shared_speakers=True))["train"] == {"ann", "bob"}


def test_unnamed_speakers_are_not_compared():
    splits = {
        split: [replace(one, audio_file=Path(split, one.audio_file.name)) for one in utterances_of({"unknown:a": 2})]
        for split in ("train", "dev", "test")
    }
    assert complete_splits(splits, 42) == splits


def test_a_stretch_of_audio_is_in_one_split_only():
    train, dev, test = (utterances_of({name: 2}) for name in ("ann", "bob", "eve"))
    twin = replace(dev[0], id="other", audio_file=train[1].audio_file)
    with refuses("corpus.shared-recording", train[1].audio_file):
        complete_splits({"train": train, "dev": [dev[1], twin], "test": test}, 42)
    complete_splits({"train": train, "dev": [dev[1], twin], "test": test}, 42, allow_shared_speakers=True)
    later = replace(twin, start=train[1].duration - 0.2)
    complete_splits({"train": train, "dev": [dev[1], later], "test": test}, 42)
    other_side = [replace(train[1], channel=0), replace(twin, channel=1)]
    complete_splits({"train": [train[0], other_side[0]], "dev": [dev[1], other_side[1]], "test": test}, 42)


def test_a_corpus_without_speakers_is_told_that_it_names_none():
    train = {"train": utterances_of({"unknown:clips": 9})}
    with refuses("corpus.few-speakers", ["dev", "test"]):
        complete_splits(train, 42)


def test_one_speaker_can_be_divided_by_utterance_only_when_that_is_asked_for():
    train = {"train": utterances_of({"ann": 10})}
    with refuses("corpus.few-speakers", ["dev", "test"]):
        complete_splits(train, 42)
    splits = complete_splits(train, 42, allow_shared_speakers=True)
    assert {split: len(utterances) for split, utterances in splits.items()} == {"train": 8, "dev": 1, "test": 1}


def test_two_utterances_cannot_be_three_splits():
    with refuses("corpus.few-speakers", 2):
        complete_splits({"train": utterances_of({"ann": 2})}, 42, allow_shared_speakers=True)


def test_a_corpus_without_training_data_is_refused():
    with refuses("corpus.no-split", "train"):
        complete_splits({"test": utterances_of({"ann": 2})}, 42)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.floats(0.01, 1.0))
def test_largest_remainder_seats_everybody_in_proportion(sizes, share):
    total = max(1, round(share * sum(sizes)))
    counts = largest_remainder(sizes, total)
    assert sum(counts) == total
    for count, size in zip(counts, sizes, strict=True):
        assert abs(count - size * total / sum(sizes)) < 1
        assert 0 <= count <= size


def test_a_percentage_keeps_the_shares_of_a_field():
    corpus = utterances_of({"ann": 60}, etiology="ALS") + utterances_of({"bob": 30}, etiology="PD")
    corpus += utterances_of({"eve": 10})
    sample = sample_percent(corpus, 10, 42, "etiology")
    assert Counter(utterance.fields.get("etiology") for utterance in sample) == {"ALS": 6, "PD": 3, None: 1}
    assert sample == sample_percent(corpus, 10, 42, "etiology")
    assert [corpus.index(utterance) for utterance in sample] == sorted(corpus.index(utterance) for utterance in sample)
    assert len(sample_percent(corpus, 25, 42, None)) == 25
    assert len(sample_percent(corpus, 0.1, 42, None)) == 1
    for percent in (0, -5, 101):
        with refuses("setting.range"):
            sample_percent(corpus, percent, 42, None)


def test_a_handful_is_of_many_speakers():
    corpus = utterances_of({"ann": 50, "bob": 2, "eve": 1})
    assert Counter(one.speaker for one in sample_handful(corpus, 3, 42)) == {"ann": 1, "bob": 1, "eve": 1}
    assert Counter(one.speaker for one in sample_handful(corpus, 6, 42)) == {"ann": 3, "bob": 2, "eve": 1}
    assert sample_handful(corpus, 6, 42) == sample_handful(corpus, 6, 42)
    assert len(sample_handful(corpus, 1000, 42)) == 53


def test_held_out_speakers_keep_the_shares_of_a_field():
    train = utterances_of({f"a{number}": 2 for number in range(80)}, accent="us")
    train += utterances_of({f"b{number}": 2 for number in range(20)}, accent="in")
    splits = complete_splits({"train": train}, 42, stratify="accent")
    for split in ("dev", "test"):
        speakers = {(one.speaker, one.fields["accent"]) for one in splits[split]}
        assert Counter(accent for _, accent in speakers) == {"us": 8, "in": 2}
