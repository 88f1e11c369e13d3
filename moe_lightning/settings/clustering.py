"""Settings of a clustering; the defaults are the guide's."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path

from moe_lightning.errors import InputError
from moe_lightning.settings.command_line import CommandParser
from moe_lightning.settings.comparison import Settings, StageSettings, command_settings, flat_settings
from moe_lightning.settings.options import add_options, build_parser, from_options, knobs, option

ALGORITHMS = ("hdbscan", "spectral", "kmeans", "balanced", "random", "label")
REDUCTIONS = ("none", "pca", "umap", "gradients")
NOISE_POLICIES = ("drop", "nearest", "uniform", "noop")
MOST_SEED = 2**32 - 100
"""numpy's limit is 2^32 - 1, and the report also uses the next seeds."""
TREE_ALGORITHMS = ("best", "generic", "prims_kdtree", "prims_balltree", "boruvka_kdtree", "boruvka_balltree")


_HDBSCAN, _SOFT_LABELS = "only with --algorithm hdbscan", "soft labels"


@dataclass(frozen=True)
class HdbscanOptions:
    """Options that only HDBSCAN reads."""

    min_clusters: int = option(8, "accept a fit with at least this many clusters", metavar="C", group=_HDBSCAN)
    min_cluster_size: int = option(5, "start of the search, one less per retry", metavar="S", group=_HDBSCAN)
    max_retries: int = option(5, "retries of the search", metavar="N", group=_HDBSCAN)
    min_samples: int | None = option(None, "default: the min_cluster_size of the try", metavar="N", group=_HDBSCAN)
    metric: str = option("euclidean", "a metric of the library, or cosine", group=_HDBSCAN)
    allow_single_cluster: bool = option(False, "accept one cluster", group=_HDBSCAN)
    hdbscan_algorithm: str = option("best", "of the library's tree", choices=TREE_ALGORITHMS, group=_HDBSCAN)
    no_reduce_experts: bool = option(
        False, "too few clusters is an error; otherwise there are as many experts as clusters", group=_HDBSCAN
    )
    min_experts: int = option(2, "lower limit for that reduction", metavar="E", group=_HDBSCAN)

    def __post_init__(self) -> None:
        _check_at_least(1, min_clusters=self.min_clusters, min_experts=self.min_experts)
        _check_at_least(2, min_cluster_size=self.min_cluster_size)
        _check_at_least(0, max_retries=self.max_retries)
        if self.min_samples is not None:
            _check_at_least(1, min_samples=self.min_samples)
        _check_choice("hdbscan-algorithm", self.hdbscan_algorithm, TREE_ALGORITHMS)


def _decimal_or_auto(text: str) -> float | None:
    try:
        return None if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be auto or a number, got {text!r}") from None


def number_or_auto(text: str) -> int | None:
    """A whole number; None for ``auto``."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number or auto, got {text!r}") from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


@dataclass(frozen=True)
class ClusteringSettings:
    """All settings of the clustering stage.

    Raises:
        InputError: A value is out of its range; the message names the flag.
    """

    embedding_dir: Path = option(MISSING, "store of `moe-lightning embed`", metavar="DIR")
    output_dir: Path = option(MISSING, "folder for the labels; <run>/clustered for a run", metavar="DIR")
    algorithm: str = option("hdbscan", "clustering algorithm", choices=ALGORITHMS)
    num_experts: int | None = option(
        8,
        "number of clusters, for hdbscan the highest; auto: by eigengap and stability, or as many as hdbscan finds",
        metavar="E|auto",
        read=number_or_auto,
    )
    label_field: str | None = option(None, "manifest field with the clusters of --algorithm label", metavar="FIELD")
    manifest_dir: Path | None = option(
        None, "of the manifests; default: corpus/ beside the output folder, if it exists", metavar="DIR"
    )
    pool_stats: str | None = option(
        None, "statistics to use of a store with both; default: all", choices=("mean", "mean+std")
    )
    layers: tuple[str, ...] = option(
        (), "encoder layers to use of a store with several, as in 6,last; default: all", metavar="L,...", read=_words
    )
    pool_speakers: float | None = option(
        None,
        "speaker-level pooling: 0 keeps each embedding, 1 replaces it by its speaker's mean; default auto: 0.8 if the"
        " train split has four speakers per expert, else 0",
        metavar="auto|S",
        read=_decimal_or_auto,
    )
    residualise: tuple[str, ...] = option(
        (),
        "remove the linear trace of these from the embeddings first: duration, snr, loudness, bandwidth, pitch, or"
        " fields with numbers",
        metavar="NAME,...",
        read=_words,
    )
    pooling: str = option("mean", "of stored frames", choices=("mean", "flatten", "none"))
    standardise: bool = option(True, "each dimension to mean 0 and deviation 1 of the train split")
    reduce: str = option(
        "pca",
        "reduction before clustering; gradients: onto the loss gradients predicted from the embedding, which needs"
        " `moe-lightning embed --gradients`",
        choices=REDUCTIONS,
    )
    reduce_dim: int = option(50, "dimensions after the reduction", metavar="R")
    temperature: float | None = option(
        None,
        "of the softmax over cosines (spectral), squared distances (kmeans, balanced) or log memberships (HDBSCAN);"
        " lower is harder; default auto: calibrated to --target-entropy; 1.0 is the guide's",
        metavar="auto|T",
        read=_decimal_or_auto,
        group=_SOFT_LABELS,
    )
    target_entropy: float = option(
        0.4,
        "mean entropy of the soft labels over log(E) under auto: 0.4 at 8 experts is a perplexity of 2.3, about the"
        " limit for top-2 routing; default 0.4",
        metavar="H",
        group=_SOFT_LABELS,
    )
    noise: str = option(
        "drop",
        "destination of HDBSCAN's noise mass: drop (rows renormalised; a row of noise alone goes to the nearest"
        " centroids), nearest centroids, uniform, or noop (one more expert, the last, for noop_expert); default drop",
        choices=NOISE_POLICIES,
        group=_SOFT_LABELS,
    )
    plot: str = option("umap", "layout of the scatter plot", choices=("umap", "pca", "none"), is_knob=True)
    report: bool = option(True, "report.html and report.json: meaning and stability of the clusters")
    seed: int = option(42, "of sampling and initialisation")
    hdbscan: HdbscanOptions = field(default_factory=HdbscanOptions)

    def __post_init__(self) -> None:
        _check_choice("algorithm", self.algorithm, ALGORITHMS)
        _check_choice("pooling", self.pooling, ("mean", "flatten", "none"))
        _check_choice("reduce", self.reduce, REDUCTIONS)
        _check_choice("noise", self.noise, NOISE_POLICIES)
        _check_choice("plot", self.plot, ("umap", "pca", "none"))
        _check_choice("pool-stats", self.pool_stats or "mean", ("mean", "mean+std"))
        _check_at_least(1, num_experts=1 if self.num_experts is None else self.num_experts, reduce_dim=self.reduce_dim)
        _check_at_least(0, seed=self.seed)
        if self.seed > MOST_SEED:
            raise InputError(
                "setting.range", f"--seed must be at most {MOST_SEED}, got {self.seed}", f"--seed {self.seed}"
            )
        if self.pool_speakers is not None and not 0 <= self.pool_speakers <= 1:
            raise InputError(
                "setting.range",
                f"--pool-speakers must be auto or a number from 0 to 1, got {self.pool_speakers}",
                f"--pool-speakers {self.pool_speakers}",
            )
        if "" in self.layers:
            raise InputError(
                "setting.syntax",
                "--layers takes encoder layers joined by commas, as in 6,last",
                f"--layers {self.layers}",
            )
        for name in self.residualise:
            if not name:
                raise InputError(
                    "setting.syntax",
                    "--residualise takes names joined by commas, as in duration,snr",
                    f"--residualise {self.residualise}",
                )
        if self.temperature is not None and not 0 < self.temperature < float("inf"):
            raise InputError(
                "setting.range",
                f"--temperature must be auto or a number above 0, got {self.temperature}",
                f"--temperature {self.temperature}",
            )
        if not 0 < self.target_entropy < 1:
            raise InputError(
                "setting.range",
                f"--target-entropy must lie between 0 and 1, got {self.target_entropy}",
                f"--target-entropy {self.target_entropy}",
            )
        if self.noise == "noop" and self.algorithm != "hdbscan":
            raise InputError(
                "setting.conflict",
                f"--noise noop makes an expert of what is noise to HDBSCAN, and --algorithm {self.algorithm} knows no"
                " noise; take --algorithm hdbscan, or leave --noise out",
                "--noise noop",
            )
        if (self.algorithm == "label") != (self.label_field is not None):
            raise InputError(
                "setting.conflict",
                "--algorithm label and --label-field FIELD go together; give both or neither",
                "--algorithm label",
            )


def _check_at_least(floor: int, **values: int) -> None:
    for name, value in values.items():
        if value < floor:
            raise InputError(
                "setting.range",
                f"--{name.replace('_', '-')} must be at least {floor}, got {value}",
                f"--{name.replace('_', '-')} {value}",
            )


def _check_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(
            "setting.choice", f"--{flag} must be one of {', '.join(choices)}, got {value!r}", f"--{flag} {value}"
        )


_HDBSCAN_NAMES = tuple(one.name for one in fields(HdbscanOptions))


def parse(argv: Sequence[str] | None = None) -> tuple[ClusteringSettings, list[str]]:
    """Settings from the command line, and warnings about flags without effect.

    Raises:
        InputError: An unknown flag, or a value outside its range.
    """
    options = parser().parse(sys.argv[1:] if argv is None else argv)
    given = {name: value for name in _HDBSCAN_NAMES if (value := getattr(options, name)) is not None}
    settings = replace(from_options(ClusteringSettings, options), hdbscan=HdbscanOptions(**given))
    if settings.algorithm == "hdbscan" or not given:
        return settings, []
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    return settings, [f"{flags} has no effect with --algorithm {settings.algorithm}: only HDBSCAN reads it"]


def resolved(arguments: Sequence[str]) -> StageSettings:
    """Settings of a command line, for the stage's record."""
    nothing = ["--embedding-dir", ".", "--output-dir", "."]
    own_knobs = frozenset([*knobs(ClusteringSettings), "no_plot"])
    return StageSettings(command_settings(arguments), _flat(parse(arguments)[0]), _flat(parse(nothing)[0]), own_knobs)


def _flat(settings: ClusteringSettings) -> Settings:
    own = asdict(settings)
    return flat_settings(own.pop("hdbscan") | own)


def parser() -> CommandParser:
    """Flags of the stage; HDBSCAN's are None if not given, so that a flag without effect is noticed."""
    words = (
        "Cluster utterance embeddings: hard labels, soft labels, a plot, a clusterer for new audio."
        " `moe-lightning cluster predict --help`: label other embeddings with it."
    )
    parser = build_parser(ClusteringSettings, "moe-lightning cluster", words, takes_config=True)
    add_options(parser, HdbscanOptions, defaults={})
    return parser
