"""The flat flags of `moe-lightning pipeline`: the guide's, with its defaults, mapped onto the settings of the stages.

``OF_STAGES`` names the flags that are settings of a stage; their choices and explanations are declared there. The
others are declared here.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe_lightning.errors import InputError
from moe_lightning.settings.clustering import ALGORITHMS, ClusteringSettings, HdbscanOptions
from moe_lightning.settings.command_line import CONFIG_DIR, CommandParser, read_yaml
from moe_lightning.settings.corpus import CorpusSettings
from moe_lightning.settings.embedding import EmbeddingSettings
from moe_lightning.settings.options import add_options, help_format, option

_RUN, _CORPUS, _MODEL, _CLUSTERING, _HDBSCAN, _TRAINING, _DEVICES = (
    "the run",
    "corpus",
    "speech model and embeddings",
    "clustering",
    "clustering with HDBSCAN only (ignored, with a warning, under spectral)",
    "training",
    "devices, as the Lightning Trainer has them",
)
OF_STAGES: tuple[tuple[str, type[Any], tuple[str, ...]], ...] = (
    (
        _CORPUS,
        CorpusSettings,
        (
            *(
                "dataset_root",
                "layout",
                "columns",
                "channel",
                "stratify",
                "data_percent",
                "max_utterances",
                "demo_utterances",
            ),
            *("allow_shared_speakers", "allow_outside_root", "skip_bad_audio"),
        ),
    ),
    (_MODEL, EmbeddingSettings, ("whisper_model", "window", "language", "embedding_layer", "pooling")),
    (
        _CLUSTERING,
        ClusteringSettings,
        ("num_experts", "label_field", "pool_speakers", "reduce", "reduce_dim", "temperature"),
    ),
    (_HDBSCAN, HdbscanOptions, tuple(HdbscanOptions.__dataclass_fields__)),
    (_DEVICES, EmbeddingSettings, ("accelerator", "devices", "num_nodes", "strategy", "precision", "deterministic")),
)
"""Heading in ``--help``, class of the declarations, and names. A flag that is not given is left to its stage."""
_AS_TEXT = {"num_experts", "pool_speakers", "temperature"}
"""Passed on as written: ``auto`` stays ``auto``."""


@dataclass(frozen=True)
class PipelineFlags:
    """Flags of the pipeline that no single stage declares."""

    mode: str | None = option(
        None, "quick: demo corpus, small speech model; default: full", choices=("quick", "full"), group=_RUN
    )
    run_dir: Path | None = option(None, "folder of the run; default: lightning_logs/<mode>", metavar="DIR", group=_RUN)
    seed: int | None = option(None, "of all stages; default: 42", group=_RUN)
    resume: bool = option(False, "accepted; a second run resumes in any case", group=_RUN)
    dry_run: bool = option(False, "print the commands of the stages, run nothing", group=_RUN)
    log_file: Path | None = option(None, "copy of the output; default: <run>/training.log", metavar="FILE", group=_RUN)
    clustering_algorithm: str | None = option(
        None, "clustering algorithm; default: hdbscan", choices=ALGORITHMS, group=_CLUSTERING
    )
    plot_method: str | None = option(
        None, "layout of the scatter plot; default: umap", choices=("pca", "umap"), group=_CLUSTERING
    )
    no_plot: bool = option(False, "skip the plot", group=_CLUSTERING)
    gating_batch_size: int | None = option(None, "default: of configs/gating.yaml", metavar="B", group=_TRAINING)
    expert_batch_size: int | None = option(None, "default: of configs/experts.yaml", metavar="B", group=_TRAINING)
    asr_batch_size: int | None = option(None, "default: of configs/moe.yaml", metavar="B", group=_TRAINING)
    refine_rounds: int | None = option(
        None, "rounds of refinement in the joint stage; default: 0", metavar="N", group=_TRAINING
    )
    gradient_accumulation_steps: int | None = option(
        None, "batches per optimizer step; default: 1", metavar="N", group=_TRAINING
    )
    num_workers: int | None = option(
        None, "processes that read audio; default: of the configs", metavar="N", group=_TRAINING
    )
    eval_every_n_epochs: int | None = option(None, "validation; default: 1", metavar="N", group=_TRAINING)
    save_every_n_epochs: int | None = option(None, "last.ckpt; default: 1", metavar="N", group=_TRAINING)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of a command line: ``pipeline.yaml``, the mode's overlay, ``--config`` files, flags; the last one wins.

    Raises:
        InputError: A flag or value is unknown, in a file or on the command line.
    """
    first, flags = _peek(arguments)
    files = [Path(file) for file in first.config or []]
    modes = [str(one["mode"]) for one in map(read_yaml, files) if "mode" in one]
    mode = first.mode or (modes[-1] if modes else "full")
    shipped = [CONFIG_DIR / "pipeline.yaml", *([CONFIG_DIR / "quick.yaml"] if mode == "quick" else [])]
    parser = build_parser()
    from_files = [flag for file in [*shipped, *files] for flag in parser.as_flags(read_yaml(file), file)]
    options = parser.parse_args([*from_files, "--mode", mode, *flags])
    own = [flag for file in files for flag in parser.as_flags(read_yaml(file), file)]
    given = parser.parse_args([*own, *flags])
    options.own_settings = dict(_setting(text) for text in given.set or [])
    options.run_dir = options.run_dir or Path("lightning_logs") / options.mode
    options.log_file = options.log_file or options.run_dir / "training.log"
    options.set = dict(_setting(text) for text in options.set or [])
    is_handful = options.mode == "quick" and options.dataset_root != "demo"
    if is_handful and options.max_utterances is None:
        options.max_utterances = [10, 5, 5]  # the guide's quick mode
        options.pool_speakers = given.pool_speakers  # too few speakers to cluster
        options.reduce = given.reduce or "pca"  # too few to predict gradients
    return options


def build_parser() -> CommandParser:
    """The parser with all flags; None means "not given". The guide's defaults are in ``configs/pipeline.yaml``."""
    parser = CommandParser(
        prog="moe-lightning pipeline",
        description="Run corpus, embedding, clustering, gating, experts, moe and evaluation, each as a process of its"
        " own. A second run skips what is finished and goes on where the first one stopped.",
        formatter_class=help_format,
    )
    titles = (_RUN, _CORPUS, _MODEL, _CLUSTERING, _HDBSCAN, _TRAINING, _DEVICES)
    groups = {title: parser.add_argument_group(title) for title in titles}
    groups[_RUN].add_argument(
        "--config", action="append", metavar="FILE", help="YAML with these settings; a flag wins over it"
    )
    switches = {one.name: False for one in PipelineFlags.__dataclass_fields__.values() if one.default is False}
    for title, group in groups.items():
        own = [one.name for one in PipelineFlags.__dataclass_fields__.values() if one.metadata["group"] == title]
        add_options(parser, PipelineFlags, own, defaults=switches, group=group)
        for heading, declared, names in OF_STAGES:
            if heading == title:
                add_options(parser, declared, names, defaults={}, group=group, as_text=_AS_TEXT)
    training = groups[_TRAINING]
    training.add_argument(
        "--fp16", action="store_true", default=None, help="mixed precision; default: on a GPU, none on a CPU"
    )
    training.add_argument("--no-fp16", dest="fp16", action="store_false", default=None, help="no mixed precision")
    training.add_argument(
        "--set",
        action="append",
        metavar="STAGE.OPTION=VALUE",
        help="any setting of a stage, such as moe.model.routing=merge",
    )
    return parser


def _peek(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Mode and config files, the base for all other flags; and those other flags."""
    first = CommandParser(prog="moe-lightning pipeline", add_help=False)
    first.add_argument("--mode", choices=("quick", "full"))
    first.add_argument("--config", action="append")
    return first.parse_known_args(arguments)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or "." not in name:
        raise InputError(
            "setting.syntax",
            f"--set takes STAGE.OPTION=VALUE, such as experts.model.rank=8, got {text!r}",
            f"--set {text}",
        )
    return name.replace("-", "_"), value
