"""`moe-lightning pipeline`: the stages in order, each in its own process.

A separate process frees its memory at its end and lets DDP start further ranks with the same command line;
users can repeat it with the printed command. This module does not import torch, so a finished run answers at
once.
"""

import argparse
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from moe_lightning.clustering.cli import parse as parse_clustering
from moe_lightning.clustering.cli import settings_of as clustering_settings
from moe_lightning.embedding.__main__ import settings_of as embedding_settings
from moe_lightning.errors import InputError, exits_cleanly
from moe_lightning.evaluation.__main__ import settings_of as evaluation_settings
from moe_lightning.faults.run_lock import pipeline_lock
from moe_lightning.faults.signals import name_as_parent
from moe_lightning.json_files import read_json_object
from moe_lightning.pipeline_check import check_settings, check_whole_trainings
from moe_lightning.pipeline_flags import CONFIG_DIR, HDBSCAN_FLAGS, HDBSCAN_SWITCHES, parse
from moe_lightning.run_dir import STAGES, RunDir, Stage
from moe_lightning.stage_record import is_finished
from moe_lightning.stage_settings import StageSettings, command_settings

Command = list[str]
"""Arguments after ``python -m moe_lightning.<stage>``."""
_RESOLVED: Mapping[Stage, Callable[[Command], StageSettings]] = {
    "embedding": embedding_settings,
    "clustering": clustering_settings,
    "evaluation": evaluation_settings,
}
"""Functions that resolve a command's settings, for stages with a quickly imported parser."""


@exits_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    """Run the unfinished stages of a run."""
    options = parse(sys.argv[1:] if argv is None else argv)
    run = RunDir(options.run_dir)
    commands = stage_commands(options, run)
    if options.dry_run:
        print("\n".join(shown(stage, command) for stage, command in commands.items()))
        return
    _check_options(options, commands)  # and each command's values: now, not after the hours of embedding
    finished = {stage for stage, command in commands.items() if is_finished(run, stage, settings_of(stage, command))}
    if len(finished) == len(commands):
        print(f"all {len(commands)} stages of {run.path} are finished; nothing is left to do")
    else:
        waiting = [stage for stage in commands if stage not in finished][1:]
        check_settings(options.own_settings, commands, waiting, CONFIG_DIR)
        with pipeline_lock(run.lock_dir):
            options.log_file.parent.mkdir(parents=True, exist_ok=True)
            with options.log_file.open("a", encoding="utf-8") as log:
                _run_stages(run, commands, finished, log)
    _print_outcome(run)


def stage_commands(options: argparse.Namespace, run: RunDir) -> dict[Stage, Command]:
    """The command for every stage, as a user would type it.

    Raises:
        InputError: ``--set`` names no stage.
    """
    commands: dict[Stage, Command] = {
        "corpus": _corpus_command(options),
        "embedding": _embedding_command(options),
        "clustering": _clustering_command(options, run),
        "gating": _training_command(options, "gating", options.gating_batch_size),
        "experts": _training_command(options, "experts", options.expert_batch_size),
        "moe": _training_command(options, "moe", options.asr_batch_size),
        "evaluation": [
            *("--run-dir", str(run.path)),
            *_given(options, "accelerator", "num_workers", "precision"),
            *_switches(options, "deterministic"),
        ],
    }
    for name, value in options.set.items():
        stage, _, option = name.partition(".")
        if stage not in commands:
            raise InputError(f"--set {name}: the stage must be one of {', '.join(STAGES)}")
        option = option if commands[stage][0] == "fit" else option.replace("_", "-")  # spelling of flags by parser
        is_switch = value == "true" and commands[stage][0] != "fit"  # in LightningCLI every option has a value
        commands[stage] += [f"--{option}"] if is_switch else [f"--{option}", value]
    if "gradients" in commands["clustering"] and parse_clustering(commands["clustering"])[0].reduce == "gradients":
        commands["embedding"].append("--gradients")
    return commands


def settings_of(stage: Stage, command: Command) -> StageSettings:
    """Settings for a stage's command; if its parser needs torch, only the given ones."""
    resolve = _RESOLVED.get(stage)
    return resolve(command) if resolve else StageSettings(command_settings(command))


def shown(stage: Stage, command: Command) -> str:
    """The command line for a stage."""
    return shlex.join(["python", "-m", f"moe_lightning.{stage}", *command])


def _corpus_command(options: argparse.Namespace) -> Command:
    command = ["--dataset-root", str(options.dataset_root), "--run-dir", str(options.run_dir)]
    command += _given(options, "seed", "data_percent", "layout", "stratify")
    for name in ("max_utterances", "demo_utterances"):
        if sizes := getattr(options, name):
            command += [f"--{name.replace('_', '-')}", *map(str, sizes)]
    return command + _switches(options, "allow_shared_speakers", "allow_outside_root", "skip_bad_audio")


def _embedding_command(options: argparse.Namespace) -> Command:
    command = ["--config", _short(CONFIG_DIR / "embedding.yaml"), "--run-dir", str(options.run_dir)]
    command += _given(options, "whisper_model", "language", "embedding_layer", "pooling", "num_workers")
    window = "30" if options.pooling == "flatten" else options.window  # flatten joins all frames of a fixed window
    command += ["--window", window] if window else []
    command += _switches(options, "deterministic")
    return [*command, *_given(options, "accelerator", "devices", "num_nodes", "strategy"), *_precision(options)]


def _clustering_command(options: argparse.Namespace, run: RunDir) -> Command:
    plot = "none" if options.no_plot else options.plot_method
    if options.mode == "quick" and options.clustering_algorithm == "hdbscan":
        most = options.num_experts if isinstance(options.num_experts, int) else 8
        options.min_clusters = min(options.min_clusters or 8, most)
    return [
        *("--config", _short(CONFIG_DIR / "clustering.yaml")),
        *("--embedding-dir", str(run.embedding_dir(options.whisper_model))),
        *("--output-dir", str(run.stage_dir("clustering"))),
        *("--algorithm", options.clustering_algorithm),
        *("--pooling", "mean" if options.pooling == "mean+std" else options.pooling),
        *_given(options, "num_experts", "label_field", "pool_speakers", "reduce", "reduce_dim", "temperature", "seed"),
        *("--plot", plot),
        *_given(options, *HDBSCAN_FLAGS),
        *_switches(options, *HDBSCAN_SWITCHES),
    ]


def _training_command(options: argparse.Namespace, stage: Stage, batch_size: int | None) -> Command:
    command = ["fit", "--config", _short(CONFIG_DIR / f"{stage}.yaml"), "--run_dir", str(options.run_dir)]
    values = {
        "seed_everything": options.seed,
        "model.whisper_model": options.whisper_model,
        "data.batch_size": batch_size,
        "data.num_workers": options.num_workers if stage != "gating" else None,
        "model.window": options.window if stage == "experts" else None,
        "model.refine_rounds": options.refine_rounds if stage == "moe" else None,
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


def _check_options(options: argparse.Namespace, commands: dict[Stage, Command]) -> None:
    """Check the options that no single stage could check before earlier stages have run."""
    check_whole_trainings(commands)
    if options.data_percent is not None and not 0 < options.data_percent <= 100:
        raise InputError(f"--data-percent must be over 0 and at most 100, got {options.data_percent:g}")
    if options.fp16 and not options.precision and (options.accelerator == "cpu" or not num_cuda_devices()):
        raise InputError("--fp16 needs a CUDA GPU, and this run has none; leave it out, or say --no-fp16")
    root = options.dataset_root
    if root != "demo" and not Path(root).exists() and not list(Path(root).parent.glob(f"{Path(root).name}_*.jsonl")):
        raise InputError(f"--dataset-root {root} does not exist; give a corpus folder, a .jsonl manifest, or demo")


def _run_stages(run: RunDir, commands: dict[Stage, Command], finished: set[Stage], log: IO[str]) -> None:
    for number, (stage, command) in enumerate(commands.items(), start=1):
        place = f"[{number}/{len(commands)}]"
        if stage in finished and is_finished(run, stage, settings_of(stage, command)):
            _tell(f"{place} {stage}: finished before", log)
            continue
        _tell(f"\n{place} {shown(stage, command)}", log)
        started = time.monotonic()
        code = _run_process([sys.executable, "-m", f"moe_lightning.{stage}", *command], log)
        if code or not run.record_file(stage).exists():
            way_on = "" if code == 2 else "; the same command goes on from here"
            _tell(f"the stage {stage} stopped (code {code}){way_on}", log)
            sys.exit(code or 1)
        _tell(f"{place} {stage}: {time.monotonic() - started:.0f} s", log)


def _run_process(command: Command, log: IO[str]) -> int:
    """Run a stage; its output goes to the terminal and the log. It receives our signals and ends with us.

    Returns:
        Its exit code; 128 + n if signal n ended it or us, as in a shell.
    """
    quiet = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    patient = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that spin while they wait stall a shared machine
    environment = {**patient, **os.environ, **quiet}
    name_as_parent(environment)
    signals: list[int] = []
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage inherits it: we pass interrupts on
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)

    def pass_on(number: int, _: object) -> None:
        signals.append(number)
        process.send_signal(signal.SIGKILL if signals.count(signal.SIGINT) > 1 else signal.SIGTERM)

    if interrupt != signal.SIG_IGN:
        signal.signal(signal.SIGINT, pass_on)
    terminate = signal.signal(signal.SIGTERM, pass_on)
    try:
        _copy_output(process, log)
        code = process.wait()
    finally:
        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGINT, interrupt)
    if signals:
        return 128 + signals[0]
    return 128 - code if code < 0 else code


def _copy_output(process: "subprocess.Popen[bytes]", log: IO[str]) -> None:
    """Copy output to the terminal as it comes, with progress bars; the log gets the last state of each line."""
    assert process.stdout is not None
    line = b""
    while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        *lines, line = (line + chunk).split(b"\n")
        for complete in lines:
            log.write(complete.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace") + "\n")
        log.flush()


def _tell(text: str, log: IO[str]) -> None:
    print(text, flush=True)
    log.write(text + "\n")
    log.flush()


def _print_outcome(run: RunDir) -> None:
    needed = {"systems": dict, "metric": dict, "verdict": dict}
    results = read_json_object(run.results_file, "moe-lightning evaluate", needed)
    rates = ", ".join(f"{name} {100 * values['rate']:.1f} %" for name, values in results["systems"].items())
    print(f"{results['metric']['name']} on the test split: {rates}")
    print(f"{results['verdict']['sentence']}\nreport: {run.report().page_file}")


def _given(options: argparse.Namespace, *names: str) -> Command:
    """Flags for those of the named options that have a value."""
    pairs = [(name, getattr(options, name)) for name in names]
    return [part for name, value in pairs if value is not None for part in (f"--{name.replace('_', '-')}", str(value))]


def _switches(options: argparse.Namespace, *names: str) -> Command:
    return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]


def _short(path: Path) -> str:
    """Path relative to the working folder if it lies below it: shorter to read and type."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    main()
