"""The command line of every stage, from the flags of `moe-lightning pipeline`."""

import argparse
import ctypes
import shlex
from pathlib import Path

from moe_lightning.errors import InputError
from moe_lightning.run.folder import RunDir
from moe_lightning.run.stages import STAGES, Stage, info
from moe_lightning.settings.clustering import HdbscanOptions
from moe_lightning.settings.clustering import parse as parse_clustering
from moe_lightning.settings.comparison import StageSettings, command_settings
from moe_lightning.settings.guide import CONFIG_DIR

Command = list[str]
"""Arguments after ``python -m moe_lightning.<stage>``."""
HDBSCAN = tuple(HdbscanOptions.__dataclass_fields__)
_HDBSCAN_SWITCHES = ("allow_single_cluster", "no_reduce_experts")


def stage_commands(options: argparse.Namespace, run: RunDir) -> dict[Stage, Command]:
    """The command for every stage, as a user would type it.

    Raises:
        InputError: ``--set`` names no stage.
    """
    commands: dict[Stage, Command] = {stage: info(stage).function("arguments")(options, run) for stage in STAGES}
    for name, value in options.set.items():
        stage, _, setting = name.partition(".")
        if stage not in commands:
            raise InputError("setting.unknown", f"--set {name}: the stage must be one of {', '.join(STAGES)}", name)
        if info(stage).is_trained:  # in LightningCLI every setting has a value
            commands[stage] += [f"--{setting}", value]
        else:
            flag = f"--{setting.replace('_', '-')}"
            commands[stage] += [flag] if value == "true" else [flag, value]
    if "gradients" in commands["clustering"] and parse_clustering(commands["clustering"])[0].reduce == "gradients":
        commands["embedding"].append("--gradients")
    return commands


def settings_of(stage: Stage, command: Command) -> StageSettings:
    """Settings for a stage's command; if its parser needs torch, only the given ones."""
    if info(stage).is_trained:
        return StageSettings(command_settings(command))
    found: StageSettings = info(stage).function("settings")(command)
    return found


def shown(stage: Stage, command: Command) -> str:
    """The command line for a stage."""
    return shlex.join(["python", "-m", f"moe_lightning.{stage}", *command])


def corpus_arguments(options: argparse.Namespace, run: RunDir) -> Command:
    """Command line of the corpus stage."""
    command = ["--dataset-root", str(options.dataset_root), "--run-dir", str(options.run_dir)]
    command += _given(options, "seed", "data_percent", "layout", "channel", "stratify")
    for name in ("max_utterances", "demo_utterances", "columns"):
        if values := getattr(options, name):
            command += [f"--{name.replace('_', '-')}", *map(str, values)]
    return command + _switches(options, "allow_shared_speakers", "allow_outside_root", "skip_bad_audio")


def embedding_arguments(options: argparse.Namespace, run: RunDir) -> Command:
    """Command line of the embedding stage."""
    command = ["--config", _short(CONFIG_DIR / "embedding.yaml"), "--run-dir", str(options.run_dir)]
    command += _given(options, "whisper_model", "language", "embedding_layer", "pooling", "num_workers")
    window = "30" if options.pooling == "flatten" else options.window  # flatten joins all frames of a fixed window
    command += ["--window", window] if window else []
    command += _switches(options, "deterministic")
    return [*command, *_given(options, "accelerator", "devices", "num_nodes", "strategy"), *_precision(options)]


def clustering_arguments(options: argparse.Namespace, run: RunDir) -> Command:
    """Command line of the clustering stage."""
    plot = "none" if options.no_plot else options.plot_method
    if options.mode == "quick" and options.clustering_algorithm == "hdbscan":
        most = int(options.num_experts) if str(options.num_experts).isdecimal() else 8
        options.min_clusters = min(options.min_clusters or 8, most)
    return [
        *("--config", _short(CONFIG_DIR / "clustering.yaml")),
        *("--embedding-dir", str(run.embedding_dir(options.whisper_model))),
        *("--output-dir", str(run.stage_dir("clustering"))),
        *("--algorithm", options.clustering_algorithm),
        *("--pooling", "mean" if options.pooling == "mean+std" else options.pooling),
        *_given(options, "num_experts", "label_field", "pool_speakers", "reduce", "reduce_dim", "temperature", "seed"),
        *("--plot", plot),
        *_given(options, *(name for name in HDBSCAN if name not in _HDBSCAN_SWITCHES)),
        *_switches(options, *_HDBSCAN_SWITCHES),
    ]


def gating_arguments(options: argparse.Namespace, run: RunDir) -> Command:
    """Command line of the gating stage."""
    return _training_arguments(options, "gating", options.gating_batch_size)


def experts_arguments(options: argparse.Namespace, run: RunDir) -> Command:
    """Command line of the experts stage."""
    return _training_arguments(options, "experts", options.expert_batch_size)


def moe_arguments(options: argparse.Namespace, run: RunDir) -> Command:
    """Command line of the joint stage."""
    return _training_arguments(options, "moe", options.asr_batch_size)


def evaluation_arguments(options: argparse.Namespace, run: RunDir) -> Command:
    """Command line of the evaluation stage."""
    flags = _given(options, "accelerator", "num_workers", "precision")
    return ["--run-dir", str(run.path), *flags, *_switches(options, "deterministic")]


def _training_arguments(options: argparse.Namespace, stage: Stage, batch_size: int | None) -> Command:
    command = ["fit", "--config", _short(CONFIG_DIR / f"{stage}.yaml"), "--run_dir", str(options.run_dir)]
    values = {
        "seed_everything": options.seed,
        "model.whisper_model": options.whisper_model if stage != "moe" else None,
        "data.batch_size": batch_size,
        "data.num_workers": options.num_workers if stage != "gating" else None,
        "model.window": options.window if stage == "experts" else None,
        "model.refinement.num_rounds": options.refine_rounds if stage == "moe" else None,
        "trainer.accelerator": options.accelerator,
        "trainer.devices": options.devices,
        "trainer.num_nodes": options.num_nodes,
        "trainer.strategy": options.strategy,
        "trainer.deterministic": "true" if options.deterministic else None,
        "trainer.check_val_every_n_epoch": options.eval_every_n_epochs,
        "trainer.accumulate_grad_batches": options.gradient_accumulation_steps if stage != "gating" else None,
        "resume.every_n_epochs": options.save_every_n_epochs,
    }
    command += [part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))]
    if stage != "gating" or options.precision:  # three small layers gain nothing from half precision
        command += _precision(options, "trainer.")
    return [*command, "--ckpt_path", "last"]


def _precision(options: argparse.Namespace, prefix: str = "") -> Command:
    """``--precision`` if given; else ``--fp16``; else mixed precision on a GPU."""
    if options.precision:
        return [f"--{prefix}precision", options.precision]
    wants_fp16 = options.fp16 if options.fp16 is not None else options.accelerator != "cpu" and num_cuda_devices() > 0
    return [f"--{prefix}precision", "16-mixed" if wants_fp16 else "32-true"]


def num_cuda_devices() -> int:
    """Number of GPUs; asks the NVIDIA driver directly, because torch takes seconds to import."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    is_ready = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if is_ready else 0


def _given(options: argparse.Namespace, *names: str) -> Command:
    """Flags for those of the named options that have a value."""
    pairs = [(name, getattr(options, name)) for name in names]
    return [part for name, value in pairs if value is not None for part in (f"--{name.replace('_', '-')}", str(value))]


def _switches(options: argparse.Namespace, *names: str) -> Command:
    return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]


def _short(path: Path) -> str:
    """Path relative to the working folder if it lies below it: shorter to read and type."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
