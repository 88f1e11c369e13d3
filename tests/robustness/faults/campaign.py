"""Runs that are stopped again and again, against one that never was."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.robustness.faults.mounts import enlarge, read_only, small_disk
from tests.robustness.faults.outcome import differences, outcome
from tests.robustness.faults.tiny_pipeline import STAGES, Fault, Forks, Variant, clear

EXIT_CODES = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda contents: contents[: len(contents) // 2],
    "empty": lambda contents: b"",
    "a bit flipped": lambda contents: (
        contents[: len(contents) // 2] + bytes([contents[len(contents) // 2] ^ 4]) + contents[len(contents) // 2 + 1 :]
    ),
}


@dataclass
class Campaign:
    """A variant of the pipeline and what it comes to undisturbed.

    Args:
        folder: Of all runs of the variant, one after another at the same path, for paths are in the results.
    """

    forks: Forks
    variant: Variant
    corpus: Path
    model: Path
    folder: Path
    expected: dict[str, str] = field(init=False)
    stages: dict[str, Any] = field(init=False)
    """How long each stage takes, and how often it changes a file."""
    num_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        ended = self._run(clear(self.folder))
        assert ended["stopped"] is None, self.log()
        self.stages = ended["stages"]
        self.expected = outcome(self.run)
        assert len(self.expected) > 30
        self.num_bytes = sum(file.stat().st_size for file in self.run.rglob("*") if file.is_file())

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def faults(self, rng: random.Random, number: int, kinds: Sequence[str] = ("SIGKILL",)) -> list[Fault]:
        """Signals over all stages, in the order in which a run comes to them."""
        stages = sorted((rng.choice(STAGES) for _ in range(number)), key=STAGES.index)
        return [self._fault(rng, stage, rng.choice(kinds)) for stage in stages]

    def late(self, stage: str) -> Fault:
        """A kill near the end of a stage, when there is something to be damaged."""
        return Fault(stage, event=int(0.85 * self.stages[stage]["events"]))

    def survived(self, faults: Sequence[Fault]) -> list[Fault]:
        """Stop a run by these signals and finish it; gives those that have come.

        Raises:
            AssertionError: The run did not stop as it should, or ended as another run.
        """
        run, left, came = clear(self.folder), list(faults), []
        while (ended := self._run(run, left))["stopped"]:
            fault = next((fault for fault in left if fault.stage == ended["stopped"]), None)
            assert fault is not None, f"it stopped by itself: {ended} {self.log()}"
            self._check_stop(fault, ended["stages"][fault.stage]["codes"])
            came.append(fault)
            left = left[left.index(fault) + 1 :]
        self._check_outcome(str(came))
        return came

    def survives_damage(self, name: str, damage: str, stopped: Fault) -> str:
        """Damage a file of a run that was stopped, and go on; gives how that ended.

        Returns:
            ``mended``, ``refused``, ``told`` of by a warning, or ``not read``.

        Raises:
            AssertionError: There was a traceback, or the damage has spread.
        """
        ended = self._run(clear(self.folder), [stopped])
        assert ended["stopped"] == stopped.stage, f"{stopped} did not come: {ended}"
        file = self.run / name
        damaged = DAMAGES[damage](file.read_bytes())
        file.write_bytes(damaged)
        ended = self._run(self.run)
        if ended["stopped"]:
            self._check_refusal(ended, f"{name} {damage}")
            return "refused"
        if f"{file} has changed since the stage" in self.log():
            return "told"
        if file.exists() and file.read_bytes() == damaged:  # nothing needed it any more
            found = [one for one in differences(outcome(self.run, {name}), self.expected) if one != name]
            assert not found, f"{name} {damage} has changed {found}"
            return "not read"
        self._check_outcome(f"{name} {damage}")
        return "mended"

    def survives_full_disk(self, share: float) -> None:
        """Run on a disk that holds a share of what a run needs; then make room and finish it.

        Raises:
            AssertionError: The run went on, ended with a traceback, or as another run.
            CannotMount: There is no such disk.
        """
        clear(self.folder)
        with small_disk(self.run, int(share * self.num_bytes)):
            ended = self._run(self.run)
            assert ended["stopped"], f"the disk was not full: {share}"
            self._check_refusal(ended, f"full disk, {share:.2f}")
            enlarge(self.run, 4 * self.num_bytes)
            assert self._run(self.run)["stopped"] is None, self.log()
            self._check_outcome(f"full disk, {share:.2f}")

    def survives_read_only(self, stopped: Fault) -> None:
        """Stop a run, go on where nothing may be written, then where it may.

        Raises:
            AssertionError: The run ended with a traceback, or as another run.
            CannotMount: A folder cannot be made read-only.
        """
        assert self._run(clear(self.folder), [stopped])["stopped"] == stopped.stage
        with read_only(self.run):
            self._check_refusal(self._run(self.run), "read-only folder")
        assert self._run(self.run)["stopped"] is None, self.log()
        self._check_outcome("read-only folder")

    def log(self) -> str:
        """Output of the stages of the last attempt."""
        return (self.folder / "output.log").read_text(errors="replace")[-20000:]

    def _check_stop(self, fault: Fault, codes: list[int]) -> None:
        if fault.only_rank:
            assert codes[fault.rank] == -9, f"{fault}: {codes} {self.log()}"
        else:
            assert EXIT_CODES[fault.signal] in codes, f"{fault}: {codes} {self.log()}"
        assert "Traceback" not in self.log(), f"{fault}: {self.log()}"

    def _check_refusal(self, ended: dict[str, Any], what: str) -> None:
        assert ended["stages"][ended["stopped"]]["codes"] == [2] * self.variant.ranks, f"{what}: {ended} {self.log()}"
        assert self.log().count("error: ") == 1, f"{what}: {self.log()}"
        assert "Traceback" not in self.log(), f"{what}: {self.log()}"

    def _check_outcome(self, what: str) -> None:
        found = differences(outcome(self.run), self.expected)
        assert not found, f"{what}: {found}"

    def _fault(self, rng: random.Random, stage: str, signal: str) -> Fault:
        usual = self.stages[stage]
        if rng.random() < 0.5:
            return Fault(stage, signal, event=rng.randint(1, usual["events"]))
        return Fault(stage, signal, after=rng.uniform(0, usual["seconds"]))

    def _run(self, run: Path, faults: Sequence[Fault] = ()) -> dict[str, Any]:
        (self.folder / "output.log").write_text("")  # a kill may come before a stage opens it
        return self.forks.run(self.variant, self.variant.flags(self.corpus, self.model), run, faults)
