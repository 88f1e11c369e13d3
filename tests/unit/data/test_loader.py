from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from moe_lightning.data.augmentation import Augmentation
from moe_lightning.data.batches import AudioDataset, BatchPlan
from moe_lightning.data.loader import FixedLoader, ResumableLoader
from moe_lightning.data.utterance import Utterance
from tests.corpora import write_audio, write_rows
from tests.refusals import refuses

DURATIONS_N = np.random.default_rng(0).uniform(0.5, 15.0, 83)


class Rows(Dataset[int]):
    """Each item is its row number."""

    def __len__(self) -> int:
        return len(DURATIONS_N)

    def __getitem__(self, row: int) -> int:
        return row


def loader(rank=0, num_ranks=1, num_workers=0, batch_size=8, max_seconds=None):
    plan = BatchPlan(DURATIONS_N, batch_size, seed=3, max_seconds=max_seconds)
    return ResumableLoader(Rows(), plan, list, num_workers, rank, num_ranks)


def take(loader, num_batches):
    """The next batches, over the ends of epochs."""
    taken = []
    while len(taken) < num_batches:
        for batch in loader:
            taken.append(batch)
            if len(taken) == num_batches:
                break
    return taken


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("num_ranks", [1, 2])
@pytest.mark.parametrize("where", ["middle", "end", "second epoch"])
def test_a_resumed_loader_continues_with_exactly_the_next_utterance(num_workers, num_ranks, where):
    for rank in range(num_ranks):
        epoch = len(loader(rank, num_ranks))
        num_done = {"middle": epoch // 2, "end": epoch, "second epoch": epoch + 3}[where]
        whole = take(loader(rank, num_ranks), 2 * epoch)
        stopped = loader(rank, num_ranks, num_workers)
        assert take(stopped, num_done) == whole[:num_done]
        resumed = loader(rank, num_ranks, num_workers)
        resumed.load_state_dict(stopped.state_dict())
        assert take(resumed, 2 * epoch - num_done) == whole[num_done:]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 3, 8, 50]), st.sampled_from([None, 20.0, 90.0]), st.integers(1, 3), st.integers(0, 4)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_an_epoch_resumed_with_other_settings_hears_every_utterance_once(parts):
    state, heard, size = None, [], None
    for number, (batch_size, max_seconds, num_ranks, num_batches) in enumerate(parts):
        ranks = [loader(rank, num_ranks, 0, batch_size, max_seconds) for rank in range(num_ranks)]
        for one in ranks:
            if state:
                one.load_state_dict(state)
        size = num_ranks
        is_last = number == len(parts) - 1
        for one in ranks:
            left = len(one.batches) - one.num_done  # of this epoch; `len` of a finished one is the next epoch's
            if left:
                heard += [row for batch in take(one, left if is_last else min(num_batches, left)) for row in batch]
        state = ranks[0].state_dict()
    assert len(heard) == len(set(heard))
    assert len(heard) > len(DURATIONS_N) - size


def test_an_epoch_of_other_length_counts_what_was_done_before():
    first = loader(batch_size=8)
    take(first, 4)
    second = loader(batch_size=4)
    second.load_state_dict(first.state_dict())
    left = len(DURATIONS_N) - 32
    assert 4 + left / 4 <= len(second) <= 4 + left / 4 + 2


def test_the_length_after_an_epochs_end_is_the_next_epochs():
    """Lightning asks for it then; batches by seconds are not the same number in every epoch."""
    one = loader(batch_size=50, max_seconds=20.0)
    lengths = []
    for _ in range(4):
        lengths.append(len(one))
        take(one, lengths[-1])
    assert [len(loader(batch_size=50, max_seconds=20.0).plan.epoch(epoch)) for epoch in range(4)] == lengths


def test_augmentation_follows_the_epoch_in_workers_too(tmp_path):
    from moe_lightning.corpus.prepare import CorpusSettings, prepare_corpus

    rows = [
        {"audio_filepath": str(write_audio(tmp_path / f"{n}.wav", 0.5)), "text": "a", "speaker": f"s{n}"}
        for n in range(6)
    ]
    root = write_rows(tmp_path / "all.jsonl", rows)
    utterances = prepare_corpus(CorpusSettings(str(root)), tmp_path / "audio").splits["train"]
    augmentation = Augmentation(speeds=(0.8, 0.9, 1.0, 1.1, 1.2), seed=1)
    lengths = []
    for num_workers in (0, 2):
        plan = BatchPlan([one.duration for one in utterances], 1, seed=1)
        dataset = AudioDataset(utterances, augmentation)
        one = ResumableLoader(dataset, plan, lambda items: (items[0].id, len(items[0].waveform_L)), num_workers)
        lengths.append([dict(batch for batch in one) for _ in range(3)])
    assert lengths[0] == lengths[1]
    assert lengths[0][0] != lengths[0][1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_recording_is_the_same_error_out_of_a_worker(num_workers: int, tmp_path: Path) -> None:
    write_audio(tmp_path / "good.wav", 1.0)
    files = [tmp_path / "good.wav", tmp_path / "gone.wav"]
    utterances = [Utterance(file.stem, file, 0.0, 1.0, "a", "s") for file in files]
    loader = FixedLoader(AudioDataset(utterances), [[0], [1]], list, num_workers)
    batches = iter(loader)
    assert [item.id for item in next(batches)] == ["good"]
    with refuses("file.missing", "gone.wav") as refused:
        next(batches)
    assert "Traceback" not in str(refused.value)
