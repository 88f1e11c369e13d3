"""The commands of `settings/expert_changes.py`: change the experts of a finished run."""

import json
import os
import shlex
import shutil
from argparse import Namespace
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.errors import InputError, MissingInputError
from moe_lightning.experts.editing import Change, Mixture, add, drop, joined, merge
from moe_lightning.models.backbones.loading import load_backbone
from moe_lightning.models.checkpoint import MADE_BY, read_expert_config, save_adapters, save_experts
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.experts import SpeechExperts
from moe_lightning.models.weights import read_metadata, read_tensors, write_state, write_tensors
from moe_lightning.run.folder import RunDir
from moe_lightning.run.record import read_record, recorded_stage, renew_record
from moe_lightning.run.stages import STAGES, Stage
from moe_lightning.settings.command_line import CONFIG_DIR, read_yaml
from moe_lightning.settings.comparison import StageSettings, decisive_settings, flat_settings
from moe_lightning.system.json_files import read_json_object, write_json

_OF_THE_CLUSTERS = ("clusterer.*", "report.*", "projector", "predicted", "*.png")
"""Files about the fitted clusters: with other experts they would label new audio with missing columns.
Labels are copied, soft labels with the new columns.
"""


def change_experts(options: Namespace) -> None:
    """Make the changed run, or join experts that were trained alone."""
    num_named = {"drop": 1, "merge": 2}.get(options.change, 0)
    if len(options.experts) != num_named:
        got = len(options.experts)
        usage = " ".join([options.change, *"KL"[:num_named]])
        raise InputError(
            "setting.syntax", f"{options.change} takes {num_named} of the experts' numbers (`{usage}`), got {got}", got
        )
    run = RunDir(options.run_dir)
    if options.change == "join":
        num_experts = join(run)
        print(f"joined {num_experts} experts into {run.pretrained_experts_file}")
        return
    if options.output_dir is None:
        raise InputError(
            "setting.missing", f"{options.change} makes a run of its own: say where with --output-dir", "--output-dir"
        )
    temperature = _read_config(run).get("gate_temperature", 1.0)
    changes: dict[str, Change] = {
        "add": lambda mixture: add(mixture, options.like, options.gate_bias),
        "drop": lambda mixture: drop(mixture, options.experts[0]),
        "merge": lambda mixture: merge(mixture, options.experts[0], options.experts[1], options.share, temperature),
    }
    changed = change_run(run, RunDir(options.output_dir), changes[options.change], options.to_train)
    print(f"{options.output_dir}: {changed.num_experts} experts")
    if options.to_train:
        print(f"train its joint stage: {joint_command(run, RunDir(options.output_dir))}")


def joint_command(run: RunDir, output: RunDir) -> str:
    """Shell command for the joint stage of the new run, with the original run's settings."""
    config_file = CONFIG_DIR / "moe.yaml"
    shipped = flat_settings(read_yaml(config_file))
    settings = read_json_object(run.record_file("moe"), "moe-lightning pipeline", {"settings": dict})["settings"]
    own = {name: value for name, value in settings.items() if shipped.get(name) != value and "callbacks" not in name}
    flags = [part for name, value in own.items() for part in (f"--{name}", _as_typed(value))]
    config = os.path.relpath(config_file)
    return shlex.join(
        ["python", "-m", "moe_lightning.moe", "fit", "--config", config, "--run_dir", str(output.path), *flags]
    )


def _as_typed(value: Any) -> str:
    """A recorded setting in command-line form: a record keeps every number as a float."""
    if isinstance(value, float):
        return f"{value:.12g}"
    return value if isinstance(value, str) else json.dumps(value)


def change_run(run: RunDir, output: RunDir, change: Change, to_train: bool = False) -> ExpertConfig:
    """Write a run with other experts.

    Returns:
        Their config.

    Raises:
        InputError: The run has no finished joint stage or other soft labels, or the output exists.
    """
    if output.path.exists():
        raise InputError(
            "folder.taken",
            f"{output.path} is there already; nothing is overwritten, choose another --output-dir",
            output.path,
        )
    settings = _read_config(run)
    config = ExpertConfig.of(settings["experts"], run.mixture_config_file)
    state = read_tensors(run.mixture_file, "moe-lightning pipeline")
    gate = {name: state.pop(name) for name in list(state) if name.startswith("gate.")}
    weight, bias = (_only(gate, f"output.{kind}") for kind in ("weight", "bias"))
    labels = {file: SoftLabels.load(file) for file in run.all_soft_labels_files()}
    tensors = [torch.from_numpy(one.probs_NE) for one in labels.values()]
    for file, one in labels.items():
        if one.num_experts != config.num_experts:
            raise InputError(
                "experts.unfit",
                f"{file} has {one.num_experts} experts, the mixture of {run.path} {config.num_experts}",
                file,
            )
    changed = change(Mixture(config, state, gate[weight], gate[bias], tensors))
    gate |= {weight: changed.gate_weight_EH.contiguous(), bias: changed.gate_bias_E.contiguous()}
    settings |= {
        "experts": asdict(changed.config),
        "top_k": min(settings["top_k"], changed.config.num_experts),
        "min_expert_prob": _floor(settings.get("min_expert_prob", 0.0), config.num_experts, changed.config.num_experts),
    }
    _copy_stages(run, output, to_train)
    for (file, one), probs_NE in zip(labels.items(), changed.soft_labels, strict=True):
        target = output.stage_dir("clustering") / file.name
        target.unlink(missing_ok=True)
        SoftLabels(one.ids, probs_NE.numpy()).save(target)
    _write_mixture(output, settings, changed, gate)
    for stage in STAGES:
        renew_record(output, stage)
    return changed.config


def join(run: RunDir) -> int:
    """Join the experts of single-expert jobs into one file, as one job would have written it.

    Returns:
        Number of experts.

    Raises:
        InputError: One is missing, or their settings differ.
    """
    found = run.experts_alone()
    if not found:
        raise MissingInputError(
            "experts.missing",
            f"{run.stage_dir('experts')} has no expert that was trained alone; run `python -m moe_lightning.experts fit"
            " --data.expert 0` and so on first",
            run.stage_dir("experts"),
        )
    parts = [RunDir(run.path, expert) for expert in found]
    config = read_expert_config(parts[0].pretrained_experts_file)
    missing = sorted(set(range(config.num_adapted)) - set(found))
    if missing:
        raise MissingInputError(
            "experts.missing",
            f"expert {missing[0]} of {config.num_experts} has not been trained alone yet; run"
            f" `python -m moe_lightning.experts fit --data.expert {missing[0]}` with the settings of the others",
            missing[0],
        )
    settings = [_together(part) for part in parts]
    first = decisive_settings(settings[0].all, settings[0].knobs)
    for expert, others in zip(found, [decisive_settings(one.all, one.knobs) for one in settings], strict=True):
        odd = [name for name in sorted({*others, *first}) if others.get(name) != first.get(name)]
        if odd:
            raise InputError(
                "experts.unfit", f"experts {found[0]} and {expert} were trained with different {', '.join(odd)}", odd
            )
    with recorded_stage(run, "experts", settings[0]) as has_work:
        if has_work:
            deltas = joined([read_tensors(part.pretrained_experts_file, MADE_BY) for part in parts], found, config)
            metadata = read_metadata(parts[0].pretrained_experts_file, MADE_BY)
            write_tensors(deltas, run.pretrained_experts_file, metadata)
    return len(found)


def _together(part: RunDir) -> StageSettings:
    """Settings of a single-expert job, as one job for all would have had them."""
    record = read_record(part.record_file("experts"), "experts")
    given = {name: value for name, value in record["settings"].items() if name != "data.expert"}
    resolved = {**record.get("resolved", {}), "data.expert": None}
    return StageSettings(given, resolved, record.get("defaults", {}), frozenset(record.get("knobs", ())))


def _read_config(run: RunDir) -> dict[str, Any]:
    needed = {"whisper_model": str, "experts": dict, "top_k": int}
    return read_json_object(run.mixture_config_file, "moe-lightning pipeline", needed)


def _floor(min_prob: float, num_before: int, num_after: int) -> float:
    """Minimum probability per expert, lowered in proportion if too large for the new number of experts."""
    return min_prob if min_prob * num_after < 1 else min_prob * num_before / num_after


def _write_mixture(output: RunDir, settings: dict[str, Any], changed: Mixture, gate: dict[str, Tensor]) -> None:
    """Write the mixture for decoding, and gate and experts as the start of a joint stage."""
    if output.gate_config_file.exists():
        trained = read_json_object(output.gate_config_file, "moe-lightning pipeline")
        write_json(output.gate_config_file, {**trained, "num_experts": changed.config.num_experts})
    experts = SpeechExperts(load_backbone(settings["whisper_model"]), changed.config)
    experts.load_expert_state(changed.deltas)
    write_tensors(experts.expert_state() | gate, output.mixture_file)
    write_json(output.mixture_config_file, settings)
    save_experts(experts, output.pretrained_experts_file, settings["whisper_model"])
    save_adapters(experts, settings["whisper_model"], output.expert_dirs(experts.config.num_experts))
    plain = {name.removeprefix("gate."): tensor for name, tensor in gate.items()}
    for file in (output.gate_file, output.joint_gate_file):
        write_state(plain, file)


def _copy_stages(run: RunDir, output: RunDir, to_train: bool) -> None:
    """Copy the stages before the experts, and the records of the trained ones; no checkpoints."""
    stages: tuple[Stage, ...] = ("corpus", "embedding", "clustering")
    for stage in stages:
        if run.stage_dir(stage).exists():
            copy = _link if stage == "embedding" else shutil.copy2
            left_out = shutil.ignore_patterns(*_OF_THE_CLUSTERS) if stage == "clustering" else None
            shutil.copytree(run.stage_dir(stage), output.stage_dir(stage), copy_function=copy, ignore=left_out)
    files = [run.record_file("gating"), run.gate_config_file, run.record_file("experts"), run.best_file]
    for file in [*files, *([] if to_train else [run.record_file("moe")])]:
        if file.exists():
            target = output.path / file.relative_to(run.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)


def _link(source: str, target: str) -> None:
    """Hard-link embeddings (large, never rewritten) if the disk allows it; else copy them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _only(gate: dict[str, Tensor], suffix: str) -> str:
    return next(name for name in gate if name.endswith(suffix))
