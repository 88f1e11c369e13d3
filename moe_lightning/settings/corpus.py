"""Settings of `moe-lightning corpus`."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass

from moe_lightning.errors import InputError
from moe_lightning.settings.command_line import CommandParser
from moe_lightning.settings.comparison import StageSettings
from moe_lightning.settings.options import build_parser, option, resolved_settings

DEMO = "demo"
HUB = "hub:"
"""Before the name of a dataset on the Hugging Face hub."""
LAYOUTS = (
    *("lhotse", "jsonl", "guide", "common-voice", "librispeech", "kaldi", "shar", "huggingface", "table", "paired"),
    "annotated",
)
"""Forms of corpora, in the order in which they are recognised."""
DESCRIPTION = (
    "Read a corpus on disk, check it, split it by speaker: manifests in <run>/corpus. `moe-lightning corpus check DIR`"
    " reports anomalies in a corpus; `moe-lightning corpus import` writes manifests for several runs."
)


@dataclass(frozen=True)
class CorpusSettings:
    """All settings of the corpus stage."""

    dataset_root: str = option(
        "Data/extracted_data",
        f"a corpus folder, a manifest, a prefix of manifests, {HUB}OWNER/NAME, or {DEMO}; --layout lists the forms",
        metavar="PATH",
    )
    layout: str = option("auto", "insist on a form of corpus; auto sees what is there", choices=("auto", *LAYOUTS))
    columns: tuple[str, ...] = option(
        (),
        "own names of a table's or manifest's columns, as in audio=wav text=phrase",
        num_values="+",
        metavar="ROLE=NAME",
    )
    stratify: str | None = option(
        None, "keep the shares of this field's values in splits and samples; default: etiology", metavar="FIELD"
    )
    data_percent: float = option(100.0, "use P % of each split, in proportion by that field", metavar="P")
    max_utterances: tuple[int, int, int] | None = option(
        None, "a handful of each split", num_values=3, metavar=("TRAIN", "DEV", "TEST")
    )
    allow_shared_speakers: bool = option(False, "accept speakers who are in two splits")
    allow_outside_root: bool = option(
        False, "take recordings that a manifest names outside of the corpus's folder", is_knob=True
    )
    skip_bad_audio: bool = option(False, "list faulty recordings and leave them out")
    channel: str = option(
        "auto",
        "of recordings with several: a number from 0, or mix; auto mixes, and reads the first of channels that cancel"
        " each other",
    )
    no_transcripts: bool = option(
        False, "take recordings without a transcript too: enough for embed and cluster, not for a training"
    )
    segment: str | None = option(
        None,
        "cut recordings over 30 s at pauses, each piece with its part of the transcript; this Whisper aligns them",
        metavar="MODEL",
    )
    seed: int = option(42, "of splits and samples")
    num_workers: int | None = option(
        None, "recordings checked at a time; default: twice the cores", metavar="N", is_knob=True
    )
    demo_seed: int = option(0, "another demo corpus")
    demo_utterances: tuple[int, int, int] | None = option(
        None, "size of the demo corpus", num_values=3, metavar=("TRAIN", "DEV", "TEST")
    )

    def __post_init__(self) -> None:
        if self.channel not in ("auto", "mix") and not self.channel.isdecimal():
            raise InputError(
                "setting.choice",
                f"--channel must be auto, mix, or a number from 0, got {self.channel!r}",
                f"--channel {self.channel}",
            )


@dataclass(frozen=True, kw_only=True)
class CorpusCommand(CorpusSettings):
    """The settings, and the run."""

    run_dir: str = option(MISSING, "the run; it gets DIR/corpus", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class ImportCommand(CorpusSettings):
    """The settings, and a folder for the manifests."""

    output_dir: str = option(MISSING, "gets train.jsonl.gz ...", metavar="DIR")


def parser() -> CommandParser:
    """Flags of the stage."""
    return build_parser(CorpusCommand, "moe-lightning corpus", DESCRIPTION)


def import_parser() -> CommandParser:
    """Flags of `moe-lightning corpus import`."""
    words = "Write a corpus's manifests into a folder, for use as --dataset-root."
    return build_parser(ImportCommand, "moe-lightning corpus import", words)


def resolved(arguments: Sequence[str]) -> StageSettings:
    """Settings of a command line."""
    return resolved_settings(CorpusCommand, parser(), arguments)
