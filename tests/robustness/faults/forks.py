"""Stages in forked processes of one that has imported everything.

`python -m tests.robustness.faults.forks`, a job a line. An import of torch takes longer than the tiny
stages do. The stages are those of `moe-lightning pipeline`, with the same arguments, each in processes of its own that
are killed like any other.
"""

import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from moe_lightning.run.folder import RunDir
from moe_lightning.run.pipeline import stage_commands
from moe_lightning.run.stages import Stage
from moe_lightning.settings.guide import parse
from moe_lightning.system.signals import end_quietly_while_importing
from tests.stage_runs import callback

TRAINED: tuple[Stage, ...] = ("gating", "experts", "moe")
OF_SEVERAL_RANKS: tuple[Stage, ...] = ("embedding", *TRAINED)
LISTENED_TO = (signal.SIGTERM, signal.SIGINT)
PATIENCE = 900.0
"""Seconds after which a stage counts as hanging."""
PATIENCE_WITH_A_LOSS = 30.0
"""Seconds after the death of a rank at which the others are ended, as Lightning's launcher does within five: one
that was lost while the ranks still met is waited for by PyTorch for half an hour."""
_WRITING = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.truncate", "shutil.rmtree")


class Ended(NamedTuple):
    """How the processes of a stage have ended."""

    codes: list[int]
    """By rank; -9 of one that was killed."""
    seconds: float
    events: int
    """Changes of files that the first rank has made, so far as Python tells of them."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of the background has it ignored
    modules = {stage: importlib.import_module(f"moe_lightning.{stage}.__main__") for stage in _STAGES}
    for late in _LATE:
        importlib.import_module(late)
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(_run(job, {stage: module.main for stage, module in modules.items()})), flush=True)


_STAGES: tuple[Stage, ...] = ("corpus", "embedding", "clustering", "gating", "experts", "moe", "evaluation")
_LATE = (
    "moe_lightning.embedding.embed",
    "moe_lightning.clustering.stage",
    "moe_lightning.evaluation.evaluate",
    "moe_lightning.experts.module",
    "moe_lightning.moe.module",
    "moe_lightning.gating.module",
    "sklearn.cluster",
    "scipy.signal",
)
"""What commands import only once they are asked to work."""


def _run(job: dict[str, Any], mains: dict[Stage, Callable[..., None]]) -> dict[str, Any]:
    """Do the stages that are not finished, until one does not end well."""
    run = RunDir(Path(job["run"]))
    done: dict[str, Any] = {}
    for stage, command in stage_commands(parse([*job["flags"], "--run-dir", job["run"]]), run).items():
        if run.record_file(stage).exists():
            continue
        if stage in TRAINED:
            command += ["--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false"]
            command += callback("RecordPlaces", file=f"{run.path.parent / stage}.places")
        kill = next((kill for kill in job["kills"] if kill["stage"] == stage), None)
        num_ranks = job["ranks"] if stage in OF_SEVERAL_RANKS else 1
        ended = _stage(mains[stage], command, num_ranks, kill, run.path.parent / "output.log")
        done[stage] = ended._asdict()
        if any(ended.codes):
            return {"stopped": stage, "stages": done}
    return {"stopped": None, "stages": done}


def _stage(
    main: Callable[..., None], command: list[str], num_ranks: int, kill: dict[str, Any] | None, log: Path
) -> Ended:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reading, writing = os.pipe()
    started = time.monotonic()
    pids = []
    signal.pthread_sigmask(signal.SIG_BLOCK, LISTENED_TO)  # a command listens before anyone can know of it
    for rank in range(num_ranks):
        pids.append(os.fork())
        if not pids[-1]:
            os.close(reading)
            ranks = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": num_ranks, "MASTER_PORT": port}
            if num_ranks > 1:
                os.environ |= {name: str(value) for name, value in {**ranks, "MASTER_ADDR": "127.0.0.1"}.items()}
            _work(main, command, kill if kill and kill.get("rank", 0) == rank else None, log, writing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LISTENED_TO)
    os.close(writing)
    codes = _wait(pids, kill, started)
    with os.fdopen(reading) as counts:
        events = int(counts.read() or 0)
    return Ended(codes, time.monotonic() - started, events)


def _wait(pids: list[int], kill: dict[str, Any] | None, started: float) -> list[int]:
    """Exit codes; where one rank is killed, of the others too, by the end that the loss of it brings or ours."""
    codes: dict[int, int] = {}
    is_signalled, lost_at = False, None
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes:
                found, status = os.waitpid(pid, os.WNOHANG)
                codes |= {pid: os.waitstatus_to_exitcode(status)} if found else {}
        passed = time.monotonic() - started
        if kill and kill["after"] is not None and passed > kill["after"] and not is_signalled:
            is_signalled = True
            hit = [pids[kill["rank"]]] if kill["only_rank"] else pids
            _send([pid for pid in hit if pid not in codes], signal.Signals[kill["signal"]])
        is_killed = -signal.SIGKILL in codes.values()
        lost_at = passed if is_killed and lost_at is None else lost_at
        patience = PATIENCE_WITH_A_LOSS if (kill or {}).get("only_rank", False) else 0.0
        if passed > PATIENCE or (lost_at is not None and passed >= lost_at + patience):
            _send([pid for pid in pids if pid not in codes], signal.SIGKILL)
        time.sleep(0.005)
    return [codes[pid] for pid in pids]


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


def _work(main: Callable[..., None], command: list[str], kill: dict[str, Any] | None, log: Path, pipe: int) -> None:
    """The forked process; it never returns."""
    end_quietly_while_importing()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LISTENED_TO)
    with log.open("ab", buffering=0) as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    count = _count_changes(kill)
    code = 1
    try:
        main(command)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        if os.environ.get("LOCAL_RANK", "0") == "0":
            os.write(pipe, str(count[0]).encode())
        os._exit(code)


def _count_changes(kill: dict[str, Any] | None) -> list[int]:
    """Count what changes files, and be killed right before the change that is asked for."""
    count = [0]
    pid = os.getpid()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        is_opened_to_write = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if not (is_opened_to_write or event in _WRITING) or os.getpid() != pid:
            return
        count[0] += 1
        if kill and kill.get("event") == count[0]:
            os.kill(pid, signal.Signals[kill["signal"]])

    sys.addaudithook(watch)
    return count


if __name__ == "__main__":
    main()
