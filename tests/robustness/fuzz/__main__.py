"""Fuzz every reader and say what was found: ``python -m tests.robustness.fuzz``.

Each reader has a process of its own; the same command goes on behind the readers that are done. Exit code 1 where
something was found; the inputs lie in ``finds/``.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.places import ROOT
from tests.robustness.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz, print a table, write ``fuzz.json``."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("--inputs", type=int, default=1_000_000, metavar="N", help="in total (default: 1,000,000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--readers", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="NAME")
    parser.add_argument("--output-dir", type=Path, default=Path("lightning_logs/fuzz"), metavar="DIR")
    options = parser.parse_args()
    folder = options.output_dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shares = sum(TARGETS[name].share for name in options.readers)
    runs = {name: -(-options.inputs * TARGETS[name].share // shares) for name in options.readers}
    results = {name: fuzz(name, runs[name], options.seed, folder) for name in options.readers}
    (folder / "fuzz.json").write_text(json.dumps({"seed": options.seed, "readers": results}, indent=1) + "\n")
    print_table(results)
    sys.exit(1 if any(one["finds"] for one in results.values()) else 0)


def fuzz(name: str, num_runs: int, seed: int, folder: Path) -> dict[str, Any]:
    """Figures of one reader, fuzzed unless that is done; a process that did not come to its end is a find."""
    file = folder / f"{name.replace(' ', '_')}.json"
    if file.exists() and (done := json.loads(file.read_text()))["inputs"] >= num_runs and done.get("seed") == seed:
        return done  # type: ignore[no-any-return]
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.robustness.fuzz.one", name, str(num_runs), str(seed), str(folder)]
    with file.with_suffix(".log").open("w+") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, check=False).returncode
        log.seek(0)
        edges = [int(count) for count in re.findall(r"cov: (\d+)", log.read())]
    figures: dict[str, Any] = (
        json.loads(file.read_text()) if file.exists() else {"inputs": 0, "seconds": 0, "finds": {}}
    )
    if code or figures["inputs"] < num_runs:
        figures["finds"][f"the process ended with {code}, see {file.with_suffix('.log')}"] = ""
    figures |= {"edges": max(edges, default=0), "seed": seed}
    file.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{name}: {figures['inputs']:,} inputs, {len(figures['finds'])} finds", file=sys.stderr, flush=True)
    return figures


def print_table(results: dict[str, dict[str, Any]]) -> None:
    """A line a reader, in the form of a Markdown table, and the sums."""
    heads = ("reader", "inputs", "accepted", "seconds", "branches reached", "slowest input, ms", "peak MiB", "finds")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, one in results.items():
        cells = (one["inputs"], one.get("accepted", 0), one["seconds"], one["edges"])
        slowest = 1000 * one.get("slowest_input_seconds", 0)
        row = (
            name,
            *(f"{cell:,}" for cell in cells),
            f"{slowest:.0f}",
            one.get("peak_memory_mib", 0),
            len(one["finds"]),
        )
        print(f"| {' | '.join(map(str, row))} |")
    sums = [sum(one[key] for one in results.values()) for key in ("inputs", "seconds", "edges")]
    num_finds = sum(len(one["finds"]) for one in results.values())
    print(f"| all | {sums[0]:,} | | {sums[1]:,.0f} | {sums[2]:,} | | | {num_finds} |")


if __name__ == "__main__":
    main()
