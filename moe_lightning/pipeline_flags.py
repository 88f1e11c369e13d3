"""Flags of `moe-lightning pipeline`: the guide's, with its defaults, from YAML files and the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from moe_lightning.clustering.settings import ALGORITHMS, REDUCTIONS
from moe_lightning.command_line import CommandParser, read_yaml
from moe_lightning.errors import InputError

CONFIG_DIR = Path(__file__).parents[1] / "configs"
if not CONFIG_DIR.is_dir():
    CONFIG_DIR = Path(__file__).parent / "configs"  # installed from a wheel

HDBSCAN_FLAGS = (
    "min_clusters",
    "min_cluster_size",
    "max_retries",
    "min_samples",
    "metric",
    "hdbscan_algorithm",
    "min_experts",
)
"""Passed on if given; the clustering stage has the defaults."""
HDBSCAN_SWITCHES = ("allow_single_cluster", "no_reduce_experts")


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
    """The parser with all flags; their defaults are in ``configs/pipeline.yaml``."""
    parser = CommandParser(
        prog="moe-lightning pipeline",
        description="Run corpus, embedding, clustering, gating, experts, moe and evaluation, each as a process of its"
        " own. A second run skips what is finished and goes on where the first one stopped.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=36, width=118),
    )
    parser.add_argument(
        "--mode", choices=("quick", "full"), help="quick: demo corpus, small speech model; full (default)"
    )
    parser.add_argument(
        "--config", action="append", metavar="FILE", help="YAML with these settings; a flag wins over it"
    )
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="folder of the run; default lightning_logs/<mode>")
    parser.add_argument("--seed", type=int, help="default 42")
    parser.add_argument("--resume", action="store_true", help="accepted; a second run resumes in any case")
    parser.add_argument("--dry-run", action="store_true", help="print the commands of the stages, run nothing")
    parser.add_argument("--log-file", type=Path, metavar="FILE", help="copy of the output; default <run>/training.log")
    parser.add_argument("--whisper-model", metavar="NAME", help="v2, v3, nano, a hub id or a folder")
    parser.add_argument(
        "--window",
        metavar="W",
        help="what the model reads at least: auto (what it was trained with: 30 s for Whisper; default), real (real"
        " lengths), or seconds",
    )
    parser.add_argument(
        "--language",
        metavar="CODE",
        help="of utterances whose manifest names none, such as en; default auto: a multilingual Whisper detects it",
    )
    _add_corpus_flags(parser.add_argument_group("corpus"))
    _add_clustering_flags(parser.add_argument_group("clustering"))
    _add_hdbscan_flags(
        parser.add_argument_group("clustering with HDBSCAN only (ignored, with a warning, under spectral)")
    )
    _add_training_flags(parser.add_argument_group("training"))
    _add_trainer_flags(parser.add_argument_group("devices, as the Lightning Trainer has them"))
    return parser


def _add_corpus_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dataset-root", metavar="PATH", help="corpus folder, .jsonl manifest, prefix of manifests, or demo"
    )
    group.add_argument("--layout", metavar="NAME", help="insist on a form of corpus; default: recognised")
    group.add_argument("--stratify", metavar="FIELD", help="keep this field's shares in splits and samples")
    group.add_argument("--data-percent", type=float, metavar="P", help="use P %% of the corpus")
    group.add_argument("--max-utterances", type=int, nargs=3, metavar=("TRAIN", "DEV", "TEST"), help="a handful")
    group.add_argument(
        "--demo-utterances", type=int, nargs=3, metavar=("TRAIN", "DEV", "TEST"), help="size of the demo corpus"
    )
    group.add_argument("--allow-shared-speakers", action="store_true", help="accept speakers who are in two splits")
    group.add_argument(
        "--allow-outside-root",
        action="store_true",
        help="take recordings that a manifest names outside of the corpus's folder",
    )
    group.add_argument("--skip-bad-audio", action="store_true", help="list faulty recordings and leave them out")


def _add_clustering_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--clustering-algorithm", choices=ALGORITHMS, help="default hdbscan")
    group.add_argument(
        "--num-experts", type=_number_or_auto, metavar="E|auto", help="clusters, at most so many of HDBSCAN; default 8"
    )
    group.add_argument("--label-field", metavar="FIELD", help="manifest field that the algorithm label takes")
    group.add_argument(
        "--pooling", choices=("mean", "mean+std", "flatten", "none"), help="of encoder frames; default mean"
    )
    group.add_argument(
        "--embedding-layer", metavar="L[,L...]", help="encoder layers, by number or last, joined; default last"
    )
    group.add_argument(
        "--pool-speakers", metavar="auto|S", help="move utterances towards their speaker's mean, 0 to 1; default auto"
    )
    group.add_argument("--reduce", choices=REDUCTIONS, help="before clustering; default pca")
    group.add_argument("--reduce-dim", type=int, metavar="R", help="default 50")
    group.add_argument("--temperature", metavar="auto|T", help="of the soft labels; default auto, 1.0 is the guide's")
    group.add_argument("--plot-method", choices=("pca", "umap"), help="default umap")
    group.add_argument("--no-plot", action="store_true", help="skip the plot")


def _add_hdbscan_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--min-clusters", type=int, metavar="C", help="accept a fit with so many clusters; default 8")
    group.add_argument("--min-cluster-size", type=int, metavar="S", help="where the search starts; default 5")
    group.add_argument("--max-retries", type=int, metavar="N", help="of the search; default 5")
    group.add_argument("--min-samples", type=int, metavar="N", help="default: min_cluster_size")
    group.add_argument("--metric", help="default euclidean; cosine works too")
    group.add_argument("--allow-single-cluster", action="store_true")
    group.add_argument("--hdbscan-algorithm", help="default best")
    group.add_argument("--no-reduce-experts", action="store_true", help="too few clusters is an error")
    group.add_argument("--min-experts", type=int, metavar="E", help="never fewer experts than this; default 2")


def _add_training_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--fp16", dest="fp16", action="store_true", default=None, help="mixed precision; auto on CUDA")
    group.add_argument("--no-fp16", dest="fp16", action="store_false", default=None, help="no mixed precision")
    group.add_argument("--gating-batch-size", type=int, metavar="B", help="default: of configs/gating.yaml")
    group.add_argument("--expert-batch-size", type=int, metavar="B", help="default: of configs/experts.yaml")
    group.add_argument("--asr-batch-size", type=int, metavar="B", help="default: of configs/moe.yaml")
    group.add_argument(
        "--refine-rounds", type=int, metavar="N", help="rounds of refinement in the joint stage; default 0"
    )
    group.add_argument("--gradient-accumulation-steps", type=int, metavar="N", help="batches a step; default 1")
    group.add_argument(
        "--num-workers", type=int, metavar="N", help="processes that read audio; default: of the configs"
    )
    group.add_argument("--eval-every-n-epochs", type=int, metavar="N", help="default 1")
    group.add_argument("--save-every-n-epochs", type=int, metavar="N", help="default 1")
    group.add_argument(
        "--set",
        action="append",
        metavar="STAGE.OPTION=VALUE",
        help="any option of a stage, such as moe.model.routing=merge",
    )


def _add_trainer_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--accelerator", help="auto, cpu, gpu ...; default auto")
    group.add_argument("--devices", help="how many, or auto; default auto")
    group.add_argument("--num-nodes", type=int, metavar="N", help="default 1")
    group.add_argument("--strategy", help="auto, ddp ...; default auto")
    group.add_argument(
        "--deterministic", action="store_true", help="the same bits each time on GPUs too; slower (see RELIABILITY.md)"
    )
    group.add_argument("--precision", help="32-true, 16-mixed, bf16-mixed ...; default: as --fp16 says")


def _peek(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Mode and config files, the base for all other flags; and those other flags."""
    first = CommandParser(prog="moe-lightning pipeline", add_help=False)
    first.add_argument("--mode", choices=("quick", "full"))
    first.add_argument("--config", action="append")
    return first.parse_known_args(arguments)


def _number_or_auto(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number or auto, got {text!r}") from None


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or "." not in name:
        raise InputError(f"--set takes STAGE.OPTION=VALUE, such as experts.model.rank=8, got {text!r}")
    return name.replace("-", "_"), value
