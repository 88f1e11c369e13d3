"""What a run was made with: stages' settings, versions, hardware, git revision."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from moe_lightning import __version__
from moe_lightning.json_files import read_json_object
from moe_lightning.run_dir import STAGES, RunDir

LIBRARIES = ("torch", "lightning", "transformers", "peft", "lhotse", "scikit-learn", "jiwer", "numpy")


def environment(run: RunDir) -> dict[str, Any]:
    """Snapshot for the results: ``versions``, ``machine``, ``git_revision``, ``seed``, ``stages``."""
    stages: dict[str, dict[str, Any]] = {
        stage: _stage(run.record_file(stage)) for stage in STAGES if run.record_file(stage).exists()
    }
    return {
        "versions": versions(),
        "machine": machine(),
        "git_revision": git_revision(),
        "seed": _seed(stages),
        "stages": stages,
    }


def versions() -> dict[str, str]:
    """Of this package, Python, and the libraries that results depend on."""
    found = {"moe_lightning": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout beside other packages
            continue
    return found


def machine() -> dict[str, Any]:
    """The processor, its cores and the memory of this machine."""
    facts: dict[str, Any] = {"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        facts["processor"] = models[0] if models else "unknown"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return facts


def git_revision() -> str | None:
    """Commit of the checkout that this code runs from, with ``+`` where files differ from it; None outside of one."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        tracked = _git(folder, "ls-files", "--error-unmatch", __file__)
        is_changed = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return (commit + ("+" if is_changed else "")) if tracked else None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _stage(record_file: Path) -> dict[str, Any]:
    record = read_json_object(record_file, "moe-lightning pipeline", {"settings": dict})
    settings = {**record.get("defaults", {}), **record.get("settings", {})}
    return {
        "started": record.get("started"),
        "seconds": record.get("seconds"),
        "version": record.get("version"),
        "settings": {name: value for name, value in sorted(settings.items()) if value is not None},
    }


def _seed(stages: dict[str, dict[str, Any]]) -> int | None:
    for stage, name in (("moe", "seed_everything"), ("experts", "seed_everything"), ("corpus", "seed")):
        seed = stages.get(stage, {}).get("settings", {}).get(name)
        if isinstance(seed, int | float):
            return int(seed)
    return None
