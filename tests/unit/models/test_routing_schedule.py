"""What the routing is at each place of a training."""

import pytest

from moe_lightning.models.routing import RoutingSchedule
from tests.refusals import refuses


def test_without_a_schedule_the_routing_is_the_same_throughout() -> None:
    schedule = RoutingSchedule("top_k")
    assert {schedule.at(epoch, epoch / 10)[:2] for epoch in range(10)} == {("top_k", 1.0)}


def test_each_mode_lasts_its_epochs_and_the_last_to_the_end() -> None:
    schedule = RoutingSchedule("top_k", before=("merge:2", "posterior:1"))
    found = [schedule.at(epoch, 0.0).routing for epoch in range(5)]
    assert found == ["merge", "merge", "posterior", "top_k", "top_k"]
    assert schedule.modes == ["merge", "posterior", "top_k"]


def test_the_temperature_moves_by_equal_factors_from_its_start_to_its_end() -> None:
    schedule = RoutingSchedule("merge", temperature=0.25, temperature_start=4.0)
    found = [schedule.at(0, share).temperature for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert found == pytest.approx([4.0, 2.0, 1.0, 0.5, 0.25])


def test_the_pull_falls_linearly_and_is_gone_when_its_share_is_done() -> None:
    schedule = RoutingSchedule("merge", pull_until=0.5)
    assert [schedule.at(0, share).pull for share in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0, 0.0])


@pytest.mark.parametrize("entry", ["soft:2", "merge", "merge:", "merge:0", "merge:-1", "merge:two", ":2", "merge:2:3"])
def test_an_entry_that_is_no_mode_with_epochs_is_refused(entry: str) -> None:
    with refuses("setting.syntax"):
        RoutingSchedule("top_k", before=(entry,))


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ({"temperature": 0.0}, ("setting.range", "gate_temperature=0.0")),
        ({"temperature_start": -1.0}, ("setting.range", "gate_temperature_start=-1.0")),
        ({"temperature": float("nan")}, ("setting.range", "gate_temperature=nan")),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, float], refusal: tuple[str, ...]) -> None:
    with refuses(*refusal):
        RoutingSchedule("top_k", **values)  # type: ignore[arg-type]
