"""Who was given weight trains, who was not rests.

Under every routing x backbone x accumulation x number of ranks x precision.
"""

import socket
from pathlib import Path

import pytest
import torch

from tests.stages.moe.combinations import (
    COMBINATIONS,
    LIKELIEST,
    NUM_EXPERTS,
    Combination,
    Outcome,
    train_all,
    train_all_on_a_rank,
    write_stages_before,
)

Outcomes = dict[Combination, list[Outcome]]
"""Of each combination, what every rank saw."""


@pytest.fixture(scope="module")
def models(tiny_whisper: Path, tiny_ctc: Path) -> dict[str, Path]:
    return {"whisper": tiny_whisper, "ctc": tiny_ctc}


@pytest.fixture(scope="module")
def folders(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each backbone a run with gate and experts."""
    folders = {name: tmp_path_factory.mktemp(name) for name in models}
    for name, folder in folders.items():
        write_stages_before(folder, models[name])
    return folders


@pytest.fixture(scope="module")
def alone(folders: dict[str, Path], models: dict[str, Path]) -> Outcomes:
    """Every combination in one process."""
    return {combination: [one] for combination, one in zip(COMBINATIONS, train_all(folders, models), strict=True)}


@pytest.fixture(scope="module")
def on_two_ranks(
    folders: dict[str, Path], models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Outcomes:
    """Every combination on one pair of gloo processes."""
    results = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (2, port, folders, models, results)
    torch.multiprocessing.spawn(train_all_on_a_rank, arguments, nprocs=2)
    ranks = [torch.load(results / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return {
        combination: [Outcome(*one), Outcome(*other)]
        for combination, one, other in zip(COMBINATIONS, *ranks, strict=True)
    }


def check_who_trained(outcomes: list[Outcome], num_ranks: int) -> None:
    weighted = sorted({expert for outcome in outcomes for expert in outcome.weighted})
    for outcome in outcomes:
        assert outcome.missing == []
        assert outcome.changed == outcome.touched == weighted
        assert outcome.has_gate_changed
        assert not outcome.finds_unused
    assert len(outcomes) == num_ranks
    assert len({outcome.digest for outcome in outcomes}) == 1, "the ranks differ"


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_who_was_given_weight_and_nobody_else_has_changed(combination: Combination, alone: Outcomes) -> None:
    check_who_trained(alone[combination], 1)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_so_it_is_on_two_ranks_which_agree_bit_for_bit(combination: Combination, on_two_ranks: Outcomes) -> None:
    check_who_trained(on_two_ranks[combination], 2)


def test_some_combinations_leave_experts_out_of_a_step_and_of_a_rank(on_two_ranks: Outcomes) -> None:
    """Else the tests above would say nothing."""
    weighted = {combination: [one.weighted for one in on_two_ranks[combination]] for combination in COMBINATIONS}
    assert all(ranks == [list(range(NUM_EXPERTS))] * 2 for one, ranks in weighted.items() if one.routing == "merge")
    assert all(ranks == [[0], [1]] for one, ranks in weighted.items() if one.routing == "hard")
    others = [ranks for one, ranks in weighted.items() if one.routing not in ("merge", "hard")]
    assert all(ranks == [sorted(pair) for pair in LIKELIEST] for ranks in others)
    assert len(others) >= 4 * 8
