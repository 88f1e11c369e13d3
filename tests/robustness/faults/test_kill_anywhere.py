"""A fixed handful of what `make faults` does: whole pipelines that are stopped and end as if they had not been."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.robustness.faults.campaign import Campaign
from tests.robustness.faults.mounts import CannotMount
from tests.robustness.faults.tiny_pipeline import VARIANTS, Fault, Forks


@pytest.fixture(scope="module")
def campaign(
    tiny_corpus: Path, tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Campaign]]:
    """Makes the campaign of a variant, once."""
    forks, made, folder = Forks(), {}, tmp_path_factory.mktemp("faults")

    def make(name: str) -> Campaign:
        if name not in made:
            made[name] = Campaign(forks, VARIANTS[name], tiny_corpus, tiny_whisper, folder / name)
        return made[name]

    yield make
    forks.close()


def test_a_pipeline_that_is_killed_in_every_stage_ends_as_one_that_never_was(
    campaign: Callable[[str], Campaign],
) -> None:
    """At the same changes of files each time, also where a checkpoint and a record are about to be renamed."""
    events = {"corpus": 20, "embedding": 30, "clustering": 25, "gating": 40, "experts": 45, "moe": 70, "evaluation": 25}
    kills = [Fault(stage, event=event) for stage, event in events.items()]
    assert campaign("plain").survived(kills) == kills


def test_signals_between_the_batches_of_steps_lose_no_gradient(campaign: Callable[[str], Campaign]) -> None:
    one = campaign("accumulation")
    signals = [Fault("gating", "SIGTERM", event=30), Fault("experts", "SIGINT", event=60)]
    signals += [Fault("experts", "SIGKILL", event=40), Fault("moe", "SIGTERM", event=50)]
    assert one.survived(signals) == signals
    one.survived(one.faults(random.Random(0), 3, ("SIGKILL", "SIGTERM")))


def test_two_ranks_are_killed_together_and_one_alone(campaign: Callable[[str], Campaign]) -> None:
    kills = [Fault("embedding", event=30), Fault("experts", event=30), Fault("moe", event=6, rank=1, only_rank=True)]
    assert campaign("two_ranks").survived(kills) == kills


def test_a_full_disk_is_told_in_one_line_and_the_run_goes_on_once_there_is_room(
    campaign: Callable[[str], Campaign],
) -> None:
    try:
        campaign("plain").survives_full_disk(0.6)
    except CannotMount as reason:
        pytest.skip(f"no small file system can be mounted here: {reason}")


def test_a_run_in_a_read_only_folder_is_refused_in_one_line(campaign: Callable[[str], Campaign]) -> None:
    try:
        campaign("plain").survives_read_only(Fault("moe", event=40))
    except CannotMount as reason:
        pytest.skip(f"no folder can be made read-only here: {reason}")


@pytest.mark.parametrize(
    ("variant", "name", "damage", "how"),
    [
        ("accumulation", "asr/checkpoints/last.ckpt", "a bit flipped", "mended"),
        ("plain", "experts/stage.json", "cut in half", "refused"),
        ("plain", "clustered/Spectral_soft.json", "cut in half", "refused"),
        ("plain", "experts/experts.safetensors", "a bit flipped", "told"),
    ],
)
def test_a_damaged_file_is_replaced_refused_or_told_of(
    campaign: Callable[[str], Campaign], variant: str, name: str, damage: str, how: str
) -> None:
    one = campaign(variant)
    assert one.survives_damage(name, damage, one.late("moe")) == how
