"""Snapshot of a run's environment: settings per stage, versions, hardware, git revision."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moe_lightning.reports.results import Environment, StageFacts
from moe_lightning.run.folder import RunDir
from moe_lightning.run.record import git_revision, versions
from moe_lightning.run.stages import STAGES
from moe_lightning.system.json_files import is_number, read_json_object


def environment(run: RunDir) -> Environment:
    """Snapshot for the results."""
    stages: dict[str, StageFacts] = {
        stage: _stage(run.record_file(stage)) for stage in STAGES if run.record_file(stage).exists()
    }
    return Environment(versions(), machine(), git_revision(), _seed(stages), stages)


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


def _stage(record_file: Path) -> StageFacts:
    record = read_json_object(record_file, "moe-lightning pipeline", {"settings": dict})
    parts = [record.get(name) for name in ("defaults", "settings", "resolved")]
    settings = {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
    return StageFacts(
        record.get("started"),
        record.get("seconds"),
        record.get("version"),
        {name: value for name, value in sorted(settings.items()) if value is not None},
    )


def _seed(stages: Mapping[str, StageFacts]) -> int | None:
    for stage, name in (("moe", "seed_everything"), ("experts", "seed_everything"), ("corpus", "seed")):
        seed = stages[stage].settings.get(name) if stage in stages else None
        if is_number(seed):
            return int(seed)
    return None
