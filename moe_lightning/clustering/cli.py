"""Command line of the clustering stage."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from moe_lightning.clustering.settings import (
    ALGORITHMS,
    NOISE_POLICIES,
    REDUCTIONS,
    TREE_ALGORITHMS,
    ClusteringSettings,
    HdbscanOptions,
)
from moe_lightning.command_line import CommandParser
from moe_lightning.stage_settings import Settings, StageSettings, command_settings, flat_settings

_HDBSCAN_NAMES = tuple(option.name for option in fields(HdbscanOptions))


def parse(argv: Sequence[str] | None = None) -> tuple[ClusteringSettings, list[str]]:
    """Settings from the command line, and warnings about flags without effect.

    Raises:
        InputError: An unknown flag, or a value outside its range.
    """
    args = vars(build_parser().parse(sys.argv[1:] if argv is None else argv))
    args.pop("config")
    asked = {name: args.pop(name) for name in _HDBSCAN_NAMES}
    asked = {name: value for name, value in asked.items() if value is not None}
    args["layers"] = tuple(args["layers"].split(",")) if args["layers"] else ()
    args["residualise"] = tuple(args["residualise"].split(",")) if args["residualise"] else ()
    settings = ClusteringSettings(**args, hdbscan=HdbscanOptions(**asked))
    if settings.algorithm == "hdbscan" or not asked:
        return settings, []
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
    return settings, [f"{flags} has no effect with --algorithm {settings.algorithm}: only HDBSCAN reads it"]


def settings_of(arguments: Sequence[str]) -> StageSettings:
    """Settings from a command line, for the stage's record."""
    nothing = ["--embedding-dir", ".", "--output-dir", "."]
    return StageSettings(command_settings(arguments), _flat(parse(arguments)[0]), _flat(parse(nothing)[0]))


def _flat(settings: ClusteringSettings) -> Settings:
    own = asdict(settings)
    return flat_settings(own.pop("hdbscan") | own)


def build_parser() -> CommandParser:
    parser = CommandParser(
        prog="moe-lightning cluster",
        description="Cluster utterance embeddings: hard labels, soft labels, a plot, a clusterer for new audio."
        " `moe-lightning cluster predict --help`: label other embeddings with it.",
        takes_config=True,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=110),
    )
    _add_main_flags(parser)
    _add_soft_label_flags(parser)
    _add_hdbscan_flags(parser)
    return parser


def _add_main_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--embedding-dir", type=Path, required=True, metavar="DIR", help="store that `moe-lightning embed` wrote")
    add("--output-dir", type=Path, required=True, metavar="DIR", help="where the labels go; <run>/clustered for a run")
    add("--algorithm", choices=ALGORITHMS, default="hdbscan", help="default hdbscan")
    add(
        "--num-experts",
        type=_number_or_auto,
        default=8,
        metavar="E|auto",
        help="clusters, at most so many of hdbscan; auto: by eigengap and stability; default 8",
    )
    add("--label-field", metavar="FIELD", help="manifest field that --algorithm label takes the clusters from")
    add("--manifest-dir", type=Path, metavar="DIR", help="of the manifests; default: corpus/ beside the output folder")
    add("--pool-stats", choices=("mean", "mean+std"), help="statistics to use of a store that holds both; default all")
    add("--layers", metavar="L,...", help="encoder layers to use of a store that joins several, 6,last; default all")
    add(
        "--pool-speakers",
        type=_decimal_or_auto,
        default="auto",
        metavar="auto|S",
        help="move each utterance this share of the way to its speaker's mean; auto (default): 0.8 where there are"
        " four speakers an expert, else 0",
    )
    add(
        "--residualise",
        metavar="NAME,...",
        help="take the linear trace of these out first: duration, snr, loudness, bandwidth, pitch, fields of numbers",
    )
    add(
        "--pooling",
        choices=("mean", "flatten", "none"),
        default="mean",
        help="of stored frames; default mean",
    )
    add(
        "--standardise",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="each dimension to mean 0, deviation 1 of the train split; default on",
    )
    add(
        "--reduce",
        choices=REDUCTIONS,
        default="pca",
        help="before clustering; gradients: to what foretells how training would change the model, of a store made with"
        " --gradients; default pca",
    )
    add("--reduce-dim", type=int, default=50, metavar="R", help="dimensions left; default 50")
    add("--plot", choices=("umap", "pca", "none"), default="umap", help="layout of the scatter; default umap")
    add(
        "--report",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="report.html and report.json: what the clusters follow, and whether they are stable; default on",
    )
    add("--seed", type=int, default=42, help="default 42")


def _add_soft_label_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("soft labels").add_argument
    add(
        "--temperature",
        type=_decimal_or_auto,
        default="auto",
        metavar="auto|T",
        help="lower is sharper; auto (default) meets --target-entropy, 1.0 is the guide's",
    )
    add(
        "--target-entropy",
        type=float,
        default=0.4,
        metavar="H",
        help="mean entropy over log(E) that auto aims at; default 0.4, at 8 experts as spread as 2.3 equal ones",
    )
    add(
        "--noise",
        choices=NOISE_POLICIES,
        default="drop",
        help="where HDBSCAN's noise mass goes: dropped, the row renormalised (default; a row of noise alone goes to"
        " the nearest centroids), to the nearest centroids, evenly, or (noop) to one more expert, the last: for"
        " noop_expert",
    )


def _add_hdbscan_flags(parser: argparse.ArgumentParser) -> None:
    """None means "not given", so that a flag without effect is noticed; the defaults are in `HdbscanOptions`."""
    add = parser.add_argument_group("only with --algorithm hdbscan").add_argument
    add("--min-clusters", type=int, metavar="C", help="accept a fit with at least so many clusters; default 8")
    add("--min-cluster-size", type=int, metavar="S", help="where the search starts, one less a retry; default 5")
    add("--max-retries", type=int, metavar="N", help="retries of the search; default 5")
    add("--min-samples", type=int, metavar="N", help="passed on; default: the min_cluster_size of the try")
    add("--metric", help="passed on, and cosine; default euclidean")
    add("--allow-single-cluster", action="store_true", default=None, help="passed on")
    add("--hdbscan-algorithm", choices=TREE_ALGORITHMS, help="passed on; default best")
    add("--no-reduce-experts", action="store_true", default=None, help="too few clusters is an error")
    add("--min-experts", type=int, metavar="E", help="never fewer experts than this; default 2")


def _decimal_or_auto(text: str) -> float | None:
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be auto or a number, got {text!r}") from None


def _number_or_auto(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number or auto, got {text!r}") from None
