"""Settings of `moe-lightning evaluate`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from moe_lightning.errors import InputError
from moe_lightning.settings.command_line import CommandParser
from moe_lightning.settings.comparison import StageSettings
from moe_lightning.settings.options import build_parser, option, resolved_settings

System = Literal["backbone", "uniform", "label", "best_expert", "utterance_gate", "mixture"]
"""``backbone``: no expert. ``uniform``: all experts in equal parts, no gate. ``label``: the expert for each
utterance's true group, an oracle. ``best_expert``: the transcript with the fewest word errors among all experts',
an oracle that reads the reference. ``utterance_gate``: the mixture, with a gate that reads each utterance alone.
``mixture``: as trained, with the gate input from `GateBy`.
"""
GateBy = Literal["auto", "utterance", "speaker"]
"""Input of the gate: one utterance, or all of its speaker; ``auto``: as the clusters were made."""
NormaliserChoice = Literal["auto", "basic", "english"]
"""Text normalisation: Whisper's English one (spellings, contractions, numbers), Whisper's basic one for any language,
or by the language of each utterance (``auto``).
"""
DEFAULT_SYSTEMS: tuple[System, ...] = ("backbone", "mixture")
ROUTING = "merge, top_k, hard, posterior, confidence or loss, with the same weights and top_k; default: as trained"
BEAMS = "hypotheses that a CTC model keeps; 1: the likeliest path"
GUARD = "let texts run on in loops, and write words for silence and noise too, as transformers does"
PRECISION = "32-true, bf16-mixed (also on a CPU), or 16-mixed"
_DECODING, _SCORES, _DEVICES = "decoding", "scores", "devices"


@dataclass(frozen=True)
class ScoreSettings:
    """Settings of the scores.

    Raises:
        InputError: A value is out of its range.
    """

    num_resamples: int = option(10_000, "draws of the bootstrap", metavar="N", group=_SCORES)
    seed: int = option(42, "of the draws", group=_SCORES)
    by: tuple[str, ...] = option(
        (),
        "manifest fields to score by; default: those that make groups",
        num_values="+",
        metavar="FIELD",
        group=_SCORES,
    )
    normaliser: NormaliserChoice = option(
        "auto",
        "of the texts: Whisper's English one (spellings, contractions, numbers), Whisper's basic one for any language,"
        " or auto, by the language of each utterance",
        choices=get_args(NormaliserChoice),
        group=_SCORES,
    )

    license: str | None = option(
        None,
        "licence of the trained model, for its card, by the Hub's name: cc-by-4.0, mit ...; it depends on the corpus's",
        metavar="NAME",
        group=_SCORES,
    )

    def __post_init__(self) -> None:
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license):
            raise InputError(
                "setting.syntax",
                f"--license takes the Hub's name of a licence in small letters (cc-by-4.0), got {self.license!r}",
                f"--license {self.license}",
            )
        if self.num_resamples < 100:
            raise InputError(
                "setting.range",
                f"--num-resamples must be at least 100, got {self.num_resamples}",
                f"--num-resamples {self.num_resamples}",
            )
        if self.seed < 0:
            raise InputError("setting.range", f"--seed must be 0 or more, got {self.seed}", f"--seed {self.seed}")
        _check_choice("normaliser", self.normaliser, get_args(NormaliserChoice))


@dataclass(frozen=True)
class EvaluationSettings(ScoreSettings):
    """All settings of the evaluation stage.

    Raises:
        InputError: A value is out of its range.
    """

    run_dir: str = option("lightning_logs/full", "folder of the run", metavar="DIR")
    split: str = option("test", "split to score; dev, for tuning, goes to report/dev", choices=("dev", "test"))
    systems: str = option(
        "backbone,mixture",
        "systems to decode, joined by commas: backbone, mixture, uniform (all experts in equal parts), best_expert (the"
        " best of all experts' transcripts, an oracle), label (the true group's expert, an oracle of runs clustered by"
        " a field), utterance_gate (the mixture with a gate that reads each utterance alone)",
        metavar="NAMES",
        group=_DECODING,
    )
    routing: str | None = option(None, f"of the mixture: {ROUTING}", metavar="MODE", group=_DECODING)
    gate_by: GateBy = option(
        "auto",
        "input of the gate: each utterance alone, or all of its speaker; auto: as the clusters were made, of speakers"
        " (--pool-speakers) or of utterances",
        choices=get_args(GateBy),
        group=_DECODING,
    )
    num_beams: int = option(1, BEAMS, group=_DECODING)
    window: str | None = option(
        None,
        "of the mixture: auto, real or seconds; the bare backbone always reads its own; default: as trained",
        metavar="W",
        group=_DECODING,
    )
    rescore: bool = option(False, "score the stored transcripts again, with the flags of this group", group=_SCORES)
    no_guard: bool = option(False, GUARD, group=_DECODING)
    batch_size: int = option(16, "utterances of a batch", metavar="B", group=_DEVICES, is_knob=True)
    num_workers: int = option(2, "processes that read audio", metavar="N", group=_DEVICES, is_knob=True)
    accelerator: str = option("auto", "auto, cpu or gpu", group=_DEVICES, is_knob=True)
    precision: str = option("32-true", PRECISION, group=_DEVICES, is_knob=True)
    deterministic: bool = option(
        False, "decode to the same bits each time on a GPU too; slower", group=_DEVICES, is_knob=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise InputError(
                "setting.range",
                f"--batch-size must be at least 1, got {self.batch_size}",
                f"--batch-size {self.batch_size}",
            )
        _check_systems(self.system_names)

    @property
    def system_names(self) -> tuple[System, ...]:
        """The systems, one by one."""
        return tuple(cast(System, name) for name in self.systems.split(","))


def parser() -> CommandParser:
    """Flags of the stage."""
    words = "Word error rates of a finished run, overall and by group, and the report."
    return build_parser(EvaluationSettings, "moe-lightning evaluate", words, takes_config=True)


def resolved(arguments: Sequence[str]) -> StageSettings:
    """Settings of a command line."""
    return resolved_settings(EvaluationSettings, parser(), arguments)


def _check_systems(names: tuple[System, ...]) -> None:
    """Raise an InputError for an unknown system; backbone and mixture are required."""
    unknown = [name for name in names if name not in get_args(System)]
    if unknown:
        raise InputError(
            "setting.choice",
            f"--systems takes {', '.join(get_args(System))}, joined by commas, got {unknown[0]!r}",
            f"--systems {unknown[0]}",
        )
    missing = [name for name in DEFAULT_SYSTEMS if name not in names]
    if missing:
        raise InputError(
            "setting.conflict", f"--systems must name {missing[0]} too: all comparisons are with it", "--systems"
        )


def _check_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(
            "setting.choice", f"--{flag} must be one of {', '.join(choices)}, got {value!r}", f"--{flag} {value}"
        )
