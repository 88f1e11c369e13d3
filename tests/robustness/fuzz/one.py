"""Fuzz one reader in this process: ``python -m tests.robustness.fuzz.one NAME RUNS SEED FOLDER``.

libFuzzer (through Atheris) chooses the inputs by the branches of ``moe_lightning`` that they reach. What a reader
raises beside an InputError is kept, one file for each place that it is raised from, and the fuzzing goes on.
"""

import hashlib
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from tests.robustness.fuzz.mutate import mutate_json

SLOWEST = 5.0
"""Seconds of processor time from which an input is a find."""
MEMORY = 4 * 2**30
"""Bytes that the process may have: an input that wants more is a find."""
MAX_BYTES = 4096


class Fuzzer:
    """Feeds a reader and counts."""

    def __init__(self, name: str, num_runs: int, folder: Path, instrumented: AbstractContextManager[Any]):
        with instrumented:
            from tests.robustness.fuzz.targets import TARGETS

            self.target = TARGETS[name]
            self.scratch = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
            self.read = self.target.prepare(Path(self.scratch.name))
            from moe_lightning.errors import InputError

            for seed in self.target.seeds:  # whatever a reader imports late is instrumented too
                with suppress(InputError):
                    self.read(seed)
        self.refusal = InputError
        self.name, self.num_runs, self.folder = name, num_runs, folder
        self.inputs = self.accepted = 0
        self.slowest = 0.0
        self.finds: dict[str, str] = {}
        self.started = time.monotonic()

    def __call__(self, contents: bytes) -> None:
        """One input."""
        began = time.process_time()
        try:
            self.read(contents)
            self.accepted += 1
        except self.refusal:
            pass
        except Exception as error:
            self.keep(contents, error)
        seconds = time.process_time() - began
        if seconds > max(self.slowest, SLOWEST):
            self.keep(contents, TimeoutError(f"{seconds:.1f} s"))
        self.slowest = max(self.slowest, seconds)
        self.inputs += 1
        if self.inputs % 1000 == 0 or self.inputs >= self.num_runs:
            self.report()

    def keep(self, contents: bytes, error: Exception) -> None:
        """Write the first input of each place that raises."""
        frames = [one for one in traceback.extract_tb(error.__traceback__) if "moe_lightning" in one.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        name = f"{type(error).__name__} at {place}"
        if name not in self.finds:
            self.finds[name] = str(error)[:200]
            file = (
                self.folder / "finds" / f"{self.name}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".replace(" ", "_")
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(contents)
            print(f"FIND {self.name}: {name}: {error} -> {file}", file=sys.stderr, flush=True)

    def report(self) -> None:
        """What has been done so far."""
        figures = {
            "inputs": self.inputs,
            "accepted": self.accepted,
            "seconds": round(time.monotonic() - self.started, 1),
            "slowest_input_seconds": round(self.slowest, 3),
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "finds": self.finds,
        }
        (self.folder / f"{self.name.replace(' ', '_')}.json").write_text(json.dumps(figures, indent=1))

    def mutate(self, contents: bytes, max_size: int, seed: int) -> bytes:
        """LibFuzzer's own mutation, or for JSON every second time one that leaves it JSON."""
        if self.target.is_json and seed % 2:
            contents = mutate_json(contents, seed)
            if len(contents) <= max_size and seed % 8 != 1:
                return contents
        import atheris

        return bytes(atheris.Mutate(contents[:max_size], max_size))


def main() -> None:
    """Fuzz, to the end or to what libFuzzer calls a hang or too much memory."""
    import atheris  # of the extra fuzz; a test of the rest goes without

    name, num_runs, seed, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    fuzzer = Fuzzer(name, num_runs, folder, atheris.instrument_imports(include=["moe_lightning"]))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + _mapped(), resource.RLIM_INFINITY))
    seeds = folder / "seeds" / name.replace(" ", "_")
    seeds.mkdir(parents=True, exist_ok=True)
    for number, contents in enumerate(fuzzer.target.seeds):
        (seeds / str(number)).write_bytes(contents)
    flags = [f"-runs={num_runs}", f"-seed={seed}", f"-max_len={MAX_BYTES}", "-timeout=30", "-rss_limit_mb=4096"]
    flags += [f"-artifact_prefix={folder / 'finds'}/{name.replace(' ', '_')}-", "-len_control=0"]
    (folder / "finds").mkdir(exist_ok=True)
    atheris.Setup(["fuzz", *flags, str(seeds)], fuzzer, custom_mutator=fuzzer.mutate, internal_libfuzzer=True)
    atheris.Fuzz()


def _mapped() -> int:
    """Bytes of address space that the process has already."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
