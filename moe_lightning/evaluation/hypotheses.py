"""Transcripts of systems on disk: one utterance a line, with alignments, so that scoring needs no model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from moe_lightning.backbone.normaliser import Normaliser
from moe_lightning.corpus import Utterance
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.evaluation.alignment import align
from moe_lightning.from_json import fits, from_json
from moe_lightning.json_files import parse_json, read_json_object, write_json
from moe_lightning.plain_files import numbered_lines
from moe_lightning.run_dir import ReportDir

_MADE_BY = "moe-lightning evaluate"


class SystemCost(NamedTuple):
    """What decoding a split by one system took."""

    seconds: float
    real_time_factor: float
    """Seconds of work for a second of audio."""
    parameters: int
    """Of everything that runs."""
    trained_parameters: int
    window: float = 0.0
    """Seconds that it read at least; 0 for real lengths."""


class Decoding(NamedTuple):
    """What decoding a split took."""

    device: str
    num_threads: int
    audio_seconds: float
    memory_bytes: int
    """Peak of the GPU where there is one, else of the process."""
    systems: dict[str, SystemCost]
    routing: str = ""
    """Of the mixture."""
    num_beams: int = 1
    """Of a CTC model."""
    gate_by: str = "utterance"
    """What the gate heard before it chose: an utterance, or all of its ``speaker``."""
    own_window: float = 0.0
    """Seconds of the window that the backbone was trained with."""


@dataclass(frozen=True)
class Decoded:
    """Transcripts of a split by several systems."""

    systems: dict[str, dict[str, str]]
    """Text by utterance id, by the name of the system."""
    gates: dict[str, list[float]]
    """Weight of each expert in the mixture, by utterance id."""
    decoding: Decoding

    def experts(self) -> dict[str, int]:
        """The likeliest expert of each utterance."""
        return {id_: max(range(len(gate)), key=gate.__getitem__) for id_, gate in self.gates.items()}

    def save(self, report: ReportDir, utterances: Sequence[Utterance], normaliser: Normaliser) -> None:
        """Write a line an utterance, sorted by id, and what the decoding cost.

        A line has ``id``, ``speaker``, ``language``, ``reference``, ``expert``, ``gate``, the text of each system
        under its name, and ``alignments`` of the normalised texts: ``[kind, reference word, hypothesis word]``
        (characters of a language without spaces).
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
                "alignments": {
                    name: align(said, normaliser.units(text, utterance.language)) for name, text in texts.items()
                },
            }
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        report.path.mkdir(parents=True, exist_ok=True)
        partial = report.hypotheses_file.with_suffix(".partial")
        partial.write_text("".join(lines), encoding="utf-8")
        partial.replace(report.hypotheses_file)
        costs = {name: cost._asdict() for name, cost in self.decoding.systems.items()}
        write_json(report.decoding_file, {**self.decoding._asdict(), "systems": costs})

    @classmethod
    def load(cls, report: ReportDir) -> "Decoded":
        """What `save` wrote.

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
            return cls(systems, gates, from_json(Decoding, {**cost, "systems": costs}, file))
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{report.path} was not written by this version ({error!r}); remove it and run `{_MADE_BY}` again"
            ) from error


def read_hypotheses(report: ReportDir) -> list[dict[str, Any]]:
    """Lines of the hypotheses' file, at least one.

    Raises:
        InputError: It is missing, empty, or a line is no JSON.
    """
    file = report.hypotheses_file
    if not file.exists():
        raise MissingInputError(f"{file} is missing: nothing was decoded yet; run `{_MADE_BY}` without --rescore first")
    try:
        rows = [parse_json(line) for _, line in numbered_lines(file)]
    except ValueError as error:
        raise InputError(
            f"{file} has a line that is no JSON ({error}); remove it and run `{_MADE_BY}` again"
        ) from error
    if not rows:
        raise InputError(f"{file} has no utterance; remove it and run `{_MADE_BY}` again")
    for row in rows:
        _check_row(row, file)
    return rows


def _check_row(row: Any, file: Path) -> None:
    """Raise an InputError for a line that is not as `Decoded.save` writes it."""
    is_row = isinstance(row, dict) and isinstance(row.get("id"), str) and isinstance(row.get("alignments"), dict)
    is_whole = is_row and bool(row.get("gate")) and fits(row["gate"], list[float])
    if not is_whole or not all(isinstance(row.get(name), str) for name in row["alignments"]):
        raise InputError(
            f"{file} has a line that is no utterance with its gate and its texts ({str(row)[:60]}); remove it and run"
            f" `{_MADE_BY}` again"
        )
