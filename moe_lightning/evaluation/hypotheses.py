"""Transcripts on disk: one line per utterance, with alignments, so that scoring needs no model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from moe_lightning.data.normaliser import Normaliser
from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.evaluation.alignment import align
from moe_lightning.reports.results import Decoding, SystemScores
from moe_lightning.run.folder import ReportDir
from moe_lightning.system.atomic_file import write_text
from moe_lightning.system.json_files import as_json, fits, from_json, parse_json, read_json_object, write_json
from moe_lightning.system.plain_files import numbered_lines

if TYPE_CHECKING:  # torch: scoring needs none
    from moe_lightning.models.backbones.decoding import Notes

_MADE_BY = "moe-lightning evaluate"


class SystemCost(NamedTuple):
    """Cost of decoding a split by one system."""

    seconds: float
    real_time_factor: float
    """Seconds of work per second of audio."""
    parameters: int
    """All parameters used."""
    trained_parameters: int
    window: float = 0.0
    """Minimum seconds per input; 0 for real lengths."""


class Guarded(NamedTuple):
    """Ids of a system's utterances with a finding by the decoding guard."""

    looped: frozenset[str] = frozenset()
    """Their texts end before the second occurrence of a phrase."""
    silenced: frozenset[str] = frozenset()
    """They have no speech, and no text."""

    @classmethod
    def of(cls, notes: Mapping[str, "Notes"]) -> "Guarded":
        """From the notes per utterance."""
        looped = frozenset(id_ for id_, note in notes.items() if note.has_looped)
        return cls(looped, frozenset(id_ for id_, note in notes.items() if note.is_silenced))


@dataclass(frozen=True)
class Decoded:
    """Transcripts of a split by several systems."""

    systems: dict[str, dict[str, str]]
    """Text by utterance id, by system name."""
    gates: dict[str, list[float]]
    """Weight per expert in the mixture, by utterance id."""
    decoding: Decoding
    costs: dict[str, SystemCost]
    """By system name."""
    guarded: dict[str, Guarded] = field(default_factory=dict)
    """By system name."""

    def counts(self, system: str) -> tuple[int, int] | None:
        """Numbers of looped and silenced utterances for a system; None if decoded without the guard."""
        if not self.decoding.guard:
            return None
        found = self.guarded.get(system, Guarded())
        return len(found.looped), len(found.silenced)

    def costed(self, scores: SystemScores, system: str) -> SystemScores:
        """Scores of a system with its cost and the guard's findings."""
        loops, silenced = self.counts(system) or (None, None)
        return replace(scores, **self.costs[system]._asdict(), loops=loops, silenced=silenced)

    def experts(self) -> dict[str, int]:
        """Most likely expert by utterance id."""
        return {id_: max(range(len(gate)), key=gate.__getitem__) for id_, gate in self.gates.items()}

    def save(self, report: ReportDir, utterances: Sequence[Utterance], normaliser: Normaliser) -> None:
        """Write one line per utterance, sorted by id, and the decoding cost.

        A line has ``id``, ``speaker``, ``language``, ``reference``, ``expert``, ``gate``, each system's text under
        its name, ``looped`` and ``silenced`` (systems with this finding by the guard), and ``alignments`` of the
        normalised texts: ``[kind, reference word, hypothesis word]`` (characters for a language without spaces).
        """
        experts = self.experts()
        lines = []
        for utterance in sorted(utterances, key=lambda one: one.id):
            texts = {name: hypotheses[utterance.id] for name, hypotheses in self.systems.items()}
            said = normaliser.units(utterance.text, utterance.language)
            row = {
                "id": utterance.id,
                "speaker": utterance.speaker,
                "language": utterance.language,
                "reference": utterance.text,
                "expert": experts[utterance.id],
                "gate": [round(weight, 4) for weight in self.gates[utterance.id]],
                **texts,
                **{kind: self._systems_with(kind, utterance.id) for kind in Guarded._fields},
                "alignments": {
                    name: align(said, normaliser.units(text, utterance.language)) for name, text in texts.items()
                },
            }
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        write_text(report.hypotheses_file, "".join(lines))
        write_json(report.decoding_file, {**self.decoding._asdict(), "systems": as_json(self.costs)})

    def _systems_with(self, kind: str, id_: str) -> list[str]:
        return [name for name, found in self.guarded.items() if id_ in getattr(found, kind)]

    @classmethod
    def load(cls, report: ReportDir) -> "Decoded":
        """Read saved transcripts.

        Raises:
            InputError: Nothing was decoded yet, or a file is broken.
        """
        rows = read_hypotheses(report)
        try:
            systems = {name: {row["id"]: row[name] for row in rows} for name in rows[0]["alignments"]}
            gates = {row["id"]: row["gate"] for row in rows}
            file = report.decoding_file
            cost = read_json_object(file, _MADE_BY, {"systems": dict})
            costs = {name: from_json(SystemCost, values, file) for name, values in cost["systems"].items()}
            guarded = {name: _guarded(rows, name) for name in systems}
            return cls(systems, gates, from_json(Decoding, cost, file), costs, guarded)
        except (KeyError, TypeError) as error:
            raise InputError(
                "file.malformed",
                f"{report.path} was not written by this version ({error!r}); remove it and run `{_MADE_BY}` again",
                report.path,
            ) from error


def _guarded(rows: Sequence[Mapping[str, Any]], system: str) -> Guarded:
    return Guarded(*(frozenset(row["id"] for row in rows if system in row.get(kind, ())) for kind in Guarded._fields))


def read_hypotheses(report: ReportDir) -> list[dict[str, Any]]:
    """Lines of the hypotheses file, at least one.

    Raises:
        InputError: It is missing or empty, or a line is not an utterance in JSON.
    """
    file = report.hypotheses_file
    if not file.exists():
        raise MissingInputError(
            "file.missing",
            f"{file} is missing: nothing was decoded yet; run `{_MADE_BY}` without --rescore first",
            file,
        )
    try:
        rows = [parse_json(line) for _, line in numbered_lines(file)]
    except ValueError as error:
        raise InputError(
            "file.malformed", f"{file} has a line that is no JSON ({error}); remove it and run `{_MADE_BY}` again", file
        ) from error
    if not rows:
        raise InputError("file.malformed", f"{file} has no utterance; remove it and run `{_MADE_BY}` again", file)
    for row in rows:
        _check_row(row, file)
    return rows


def _check_row(row: Any, file: Path) -> None:
    """Raise an InputError for a line in another format than `Decoded.save` writes."""
    is_row = isinstance(row, dict) and isinstance(row.get("id"), str) and isinstance(row.get("alignments"), dict)
    is_whole = is_row and bool(row.get("gate")) and fits(row["gate"], list[float])
    is_whole = is_whole and all(fits(row.get(kind, []), list[str]) for kind in Guarded._fields)
    if not is_whole or not all(isinstance(row.get(name), str) for name in row["alignments"]):
        raise InputError(
            "file.malformed",
            f"{file} has a line that is no utterance with its gate and its texts ({str(row)[:60]}); remove it and run"
            f" `{_MADE_BY}` again",
            file,
        )
