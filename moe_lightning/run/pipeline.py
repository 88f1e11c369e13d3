"""`moe-lightning pipeline`: the stages in order, each in its own process.

A separate process frees its memory at its end and lets DDP start further ranks with the same command line;
users can repeat it with the printed command. This module does not import torch, so a finished run answers at
once.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from moe_lightning.errors import InputError
from moe_lightning.run.commands import Command, num_cuda_devices, settings_of, shown, stage_commands
from moe_lightning.run.folder import RunDir
from moe_lightning.run.pipeline_check import check_settings, check_whole_trainings
from moe_lightning.run.record import is_finished
from moe_lightning.run.stages import Stage
from moe_lightning.settings.corpus import DEMO, HUB
from moe_lightning.settings.guide import CONFIG_DIR, parse
from moe_lightning.system.exits import exits_cleanly
from moe_lightning.system.json_files import read_json_object
from moe_lightning.system.locks import pipeline_lock
from moe_lightning.system.signals import name_as_parent


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


def _check_options(options: argparse.Namespace, commands: dict[Stage, Command]) -> None:
    """Check the options that no single stage could check before earlier stages have run."""
    check_whole_trainings(commands)
    if options.data_percent is not None and not 0 < options.data_percent <= 100:
        raise InputError(
            "setting.range",
            f"--data-percent must be over 0 and at most 100, got {options.data_percent:g}",
            f"--data-percent {options.data_percent:g}",
        )
    if options.fp16 and not options.precision and (options.accelerator == "cpu" or not num_cuda_devices()):
        raise InputError(
            "setting.hardware",
            "--fp16 needs a CUDA GPU, and this run has none; leave it out, or say --no-fp16",
            "--fp16",
        )
    _check_root(options.dataset_root, options.whisper_model)


def _check_root(root: str, whisper_model: str | None) -> None:
    is_there = Path(root).exists() or list(Path(root).parent.glob(f"{Path(root).name}_*.jsonl"))
    if root != DEMO and not root.startswith(HUB) and not is_there:
        raise InputError(
            "file.missing",
            f"--dataset-root {root} does not exist; give a corpus folder, a manifest, {HUB}OWNER/NAME, or {DEMO}",
            root,
        )
    if root != DEMO and whisper_model == "nano":
        print(
            "warning: nano, the model of the quick run, was trained on synthesised English only; on recordings of"
            " people its scores say nothing. Give --whisper-model base, or another that knows them",
            file=sys.stderr,
        )


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


if __name__ == "__main__":
    main()
