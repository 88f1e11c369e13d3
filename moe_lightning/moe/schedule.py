"""Routing schedule of a training: a pure function of its epoch and its finished share."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast, get_args

from moe_lightning.errors import InputError
from moe_lightning.moe.routing import RoutingMode


class Phase(NamedTuple):
    """Routing settings of one step."""

    routing: RoutingMode
    temperature: float
    """Divides the gate's logits."""
    pull: float
    """Remaining share of the pull towards the soft labels, 1 to 0."""


@dataclass(frozen=True)
class RoutingSchedule:
    """Routing phases of a training.

    Raises:
        InputError: A value is out of its range.
    """

    routing: RoutingMode
    """At the end."""
    before: tuple[str, ...] = ()
    """Earlier modes with their epochs: ``("merge:2", "posterior:1")``."""
    temperature: float = 1.0
    """At the end."""
    temperature_start: float | None = None
    """Initial temperature; it moves to the final one by equal factors in equal training shares; None: constant."""
    pull_until: float = 1.0
    """Share of the training over which the pull falls linearly to zero."""

    def __post_init__(self) -> None:
        _ = self.modes_before
        for name, value in (("gate_temperature", self.temperature), ("gate_temperature_start", self._start)):
            if not value > 0:
                raise InputError(f"{name} must be above 0, got {value}")
        if not 0 < self.pull_until <= 1:
            raise InputError(f"pull_until must be in (0, 1], a share of the training, got {self.pull_until}")

    @cached_property
    def modes_before(self) -> list[tuple[RoutingMode, int]]:
        """Modes before the last one, each with its number of epochs."""
        return [_parsed(entry) for entry in self.before]

    @property
    def modes(self) -> list[RoutingMode]:
        """All modes of the training."""
        return [*(mode for mode, _ in self.modes_before), self.routing]

    def at(self, epoch: int, share_done: float) -> Phase:
        """The phase of a step.

        Args:
            epoch: From 0.
            share_done: Finished share of the whole training, 0 to 1.
        """
        temperature = self._start * (self.temperature / self._start) ** share_done
        return Phase(self._mode(epoch), temperature, max(0.0, 1.0 - share_done / self.pull_until))

    @property
    def _start(self) -> float:
        return self.temperature if self.temperature_start is None else self.temperature_start

    def _mode(self, epoch: int) -> RoutingMode:
        end = 0
        for mode, num_epochs in self.modes_before:
            end += num_epochs
            if epoch < end:
                return mode
        return self.routing


def _parsed(entry: str) -> tuple[RoutingMode, int]:
    mode, _, epochs = str(entry).partition(":")
    if mode not in get_args(RoutingMode) or not epochs.isascii() or not epochs.isdigit() or int(epochs) < 1:
        raise InputError(
            f"routing_schedule takes entries MODE:EPOCHS such as merge:2, MODE one of"
            f" {', '.join(get_args(RoutingMode))}, got {entry!r}"
        )
    return cast(RoutingMode, mode), int(epochs)
