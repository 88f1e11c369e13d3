"""Check the trained stages: weights must load, have the shapes in their configs, and be finite."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moe_lightning.errors import InputError
from moe_lightning.models.checkpoint import read_expert_config, read_gate_config
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.mixture_config import read_config
from moe_lightning.models.weights import read_checkpoint, read_state, read_tensors
from moe_lightning.run.finding import Finding, make_again
from moe_lightning.run.folder import RunDir
from moe_lightning.run.stages import Stage

Weights = dict[str, Tensor]
_BROKEN = (InputError, OSError, KeyError, TypeError, AttributeError)
"""Errors raised while reading a damaged file, or a config with other contents."""
_MADE_BY = "moe-lightning pipeline"


def check_gate(run: RunDir) -> Iterator[Finding]:
    """Check the trained gate."""
    return _check_weights(run, "gating", _gate(run))


def check_experts(run: RunDir) -> Iterator[Finding]:
    """Check the pre-trained experts."""
    return _check_weights(run, "experts", _experts(run))


def check_mixture(run: RunDir) -> Iterator[Finding]:
    """Check the mixture, its gate and its peft folders."""
    return _check_weights(run, "moe", _mixture(run))


def _check_weights(run: RunDir, stage: Stage, files: Mapping[Path, Any]) -> Iterator[Finding]:
    """Check exported weights against their config, and checkpoints against the exported weights."""
    exported: Weights = {}
    for file, load in files.items():
        try:
            weights = load()
            _check_finite(weights)
            exported = exported or weights
        except _BROKEN as error:
            yield _unusable(run, stage, file, error)
    for file in sorted(run.checkpoint_dir(stage).glob("*.ckpt")):
        try:
            _check_checkpoint(file, exported)
        except _BROKEN as error:
            yield _unusable(run, stage, file, error)


def _unusable(run: RunDir, stage: Stage, file: Path, error: Exception) -> Finding:
    words = " ".join(str(error).split())[:300] or type(error).__name__
    return Finding(stage, file, f"cannot be loaded ({words})", make_again(run, stage))


def _gate(run: RunDir) -> dict[Path, Any]:
    def load() -> Weights:
        config = read_gate_config(run.gate_config_file)
        weights = read_state(run.gate_file, _MADE_BY)
        _check_same_shapes(weights, config.build().state_dict(), "its config")
        return weights

    return {run.gate_file: load}


def _experts(run: RunDir) -> dict[Path, Any]:
    def load() -> Weights:
        weights = read_tensors(run.pretrained_experts_file, _MADE_BY)
        _check_ranks(weights, read_expert_config(run.pretrained_experts_file))
        return weights

    return {run.pretrained_experts_file: load}


def _mixture(run: RunDir) -> dict[Path, Any]:
    def load() -> Weights:
        config, weights = read_config(run.mixture_config_file), read_tensors(run.mixture_file, _MADE_BY)
        gate = _gate_of(weights)
        _check_same_shapes(gate, config.gate_config.build().state_dict(), run.mixture_config_file.name)
        _check_ranks({name: one for name, one in weights.items() if not name.startswith("gate.")}, config.experts)
        return weights

    def load_gate() -> Weights:
        weights, gate = read_state(run.joint_gate_file, _MADE_BY), _gate_of(read_tensors(run.mixture_file, _MADE_BY))
        _check_same_shapes(weights, gate, run.mixture_file.name)
        odd = [name for name in weights if not torch.equal(weights[name], gate[name])]
        if odd:
            raise InputError("run.inconsistent", f"{odd[0]} is not what {run.mixture_file.name} has", odd[0])
        return weights

    def check_config() -> Weights:
        num_experts = read_config(run.mixture_config_file).experts.num_experts
        missing = [expert for expert in range(num_experts) if not run.expert_dir(expert).is_dir()]
        if missing:
            raise InputError(
                "run.inconsistent",
                f"it has {num_experts} experts, and {run.expert_dir(missing[0])} is missing",
                missing[0],
            )
        return {}

    adapters = sorted(run.stage_dir("moe").glob("expert_*/adapter_model.safetensors"))
    loads = {file: partial(read_tensors, file, _MADE_BY) for file in adapters}
    return {run.mixture_config_file: check_config, run.mixture_file: load, run.joint_gate_file: load_gate, **loads}


def _gate_of(weights: Weights) -> Weights:
    return {name.removeprefix("gate."): one for name, one in weights.items() if name.startswith("gate.")}


def _check_checkpoint(file: Path, exported: Mapping[str, Tensor]) -> None:
    """Trained tensors must equal the exported ones in name and shape; names have an additional module prefix."""
    state = read_checkpoint(file, _MADE_BY)["state_dict"]
    tensors = {name: one for name, one in state.items() if isinstance(one, Tensor)}
    _check_finite(tensors)
    if not exported:
        return
    here = {name: _exported_name(name, exported) for name in tensors}
    known = {short: tensors[name] for name, short in here.items() if short}
    _check_same_shapes(known, dict(exported), "the exported weights")


def _exported_name(name: str, exported: Mapping[str, Tensor]) -> str | None:
    """Name without its first parts, as in the exported weights; None for a buffer that is not exported."""
    parts = name.split(".")
    return next((short for first in range(len(parts)) if (short := ".".join(parts[first:])) in exported), None)


def _check_ranks(weights: Mapping[str, Tensor], config: ExpertConfig) -> None:
    for name, tensor in weights.items():
        if len(tensor) != config.total_rank:
            raise InputError(
                "run.inconsistent",
                f"{name} has {len(tensor)} rows, {config.num_experts} experts of rank {config.rank} with a shared rank"
                f" of {config.shared_rank} make {config.total_rank}",
                name,
            )


def _check_same_shapes(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], whose: str) -> None:
    for name in sorted({*weights, *expected}):
        found, wanted = (tuple(one[name].shape) if name in one else None for one in (weights, expected))
        if found != wanted:
            raise InputError(
                "run.inconsistent", f"{name} is {found or 'missing'} here, {wanted or 'not there'} in {whose}", name
            )


def _check_finite(weights: Mapping[str, Tensor]) -> None:
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise InputError("run.inconsistent", f"{name} holds a value that is not finite", name)
