"""Snapshot of a run's environment: settings per stage, versions, hardware, git revision."""

import os
import platform
from pathlib import Path
from typing import Any

from moe_lightning.run.folder import RunDir
from moe_lightning.run.record import git_revision, versions
from moe_lightning.run.stages import STAGES
from moe_lightning.system.json_files import is_number, read_json_object


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


def machine() -> dict[str, Any]:
    """Processor, cores and memory of this machine."""
    facts: dict[str, Any] = {"system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        facts["processor"] = models[0] if models else "unknown"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return facts


def _stage(record_file: Path) -> dict[str, Any]:
    record = read_json_object(record_file, "moe-lightning pipeline", {"settings": dict})
    parts = [record.get(name) for name in ("defaults", "settings", "resolved")]
    settings = {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
    return {
        "started": record.get("started"),
        "seconds": record.get("seconds"),
        "version": record.get("version"),
        "settings": {name: value for name, value in sorted(settings.items()) if value is not None},
    }


def _seed(stages: dict[str, dict[str, Any]]) -> int | None:
    for stage, name in (("moe", "seed_everything"), ("experts", "seed_everything"), ("corpus", "seed")):
        seed = stages.get(stage, {}).get("settings", {}).get(name)
        if is_number(seed):
            return int(seed)
    return None
