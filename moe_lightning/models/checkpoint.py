"""All experts in one file, passed from stage to stage."""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig
from torch import Tensor

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.names import model_revision, resolve_name
from moe_lightning.models.expert_config import ExpertConfig
from moe_lightning.models.experts import SpeechExperts
from moe_lightning.models.gate import GateConfig
from moe_lightning.models.weights import read_metadata, read_tensors, write_tensors
from moe_lightning.system.atomic_file import write_bytes
from moe_lightning.system.json_files import from_json, parse_json, read_json_object

MADE_BY = "python -m moe_lightning.experts fit"
_SETTINGS = (
    *("num_experts", "rank", "shared_rank", "alpha", "target_modules"),
    *("adapt_from_layer", "rslora", "noop_expert", "window"),
)
"""Settings that must stay as in training; dropout may change."""


def save_experts(experts: SpeechExperts, file: Path, whisper_model: str) -> None:
    """Write the stacked deltas, their training config, and the revision of their backbone."""
    window = experts.backbone.window
    settings = {**asdict(experts.config), "revision": model_revision(whisper_model) or "", "window": window}
    # One key: safetensors writes several in random order, and equal trainings would differ in bytes.
    write_tensors(experts.expert_state(), file, metadata={"experts": json.dumps(settings)})


def load_experts(experts: SpeechExperts, file: Path, whisper_model: str) -> None:
    """Load the deltas of `save_experts`.

    Raises:
        InputError: They were trained on another backbone, even one of the same size, or with other settings:
            another alpha would rescale them all.
    """
    then = _saved_settings(file)
    revision = then.get("revision") or read_metadata(file, MADE_BY).get("revision")  # older files have it apart
    if revision and model_revision(whisper_model) not in (None, revision):
        raise InputError(
            "model.changed",
            f"the experts in {file} are deltas of a speech model with the revision {revision}, {whisper_model} has"
            f" {model_revision(whisper_model)}: on other weights they mean nothing; ask for the model that they were"
            " trained on",
            whisper_model,
        )
    now = json.loads(json.dumps({**asdict(experts.config), "window": experts.backbone.window}))
    for name in _SETTINGS:
        if name in then and then[name] != now[name]:
            raise InputError(
                "setting.conflict", f"{name} was {then[name]} when the experts were pre-trained, now {now[name]}", name
            )
    experts.load_expert_state(read_tensors(file, MADE_BY))


def read_expert_config(file: Path) -> ExpertConfig:
    """The config stored by `save_experts`."""
    return ExpertConfig.of(_saved_settings(file), file)


def read_window(file: Path) -> float:
    """Training window in seconds, stored by `save_experts`; 0 for real lengths."""
    window = _saved_settings(file).get("window")
    if not isinstance(window, int | float):
        raise InputError(
            "file.malformed",
            f"{file} does not say the window of its experts; run `{MADE_BY}` again in another --run-dir",
            file,
        )
    return float(window)


def _saved_settings(file: Path) -> dict[str, Any]:
    try:
        settings = parse_json(read_metadata(file, MADE_BY).get("experts", "{}"))
    except ValueError as error:
        raise InputError(
            "file.malformed", f"{file} says no settings of its experts ({error}); run `{MADE_BY}` again", file
        ) from error
    if not isinstance(settings, dict):
        raise InputError("file.malformed", f"{file} says no settings of its experts; run `{MADE_BY}` again", file)
    return settings


def save_adapters(experts: SpeechExperts, whisper_model: str, folders: Sequence[Path]) -> None:
    """Write every expert to a folder of its own."""
    for expert, folder in enumerate(folders):
        save_adapter(experts, expert, whisper_model, folder)


def save_adapter(experts: SpeechExperts, expert: int, whisper_model: str, folder: Path) -> None:
    """Write one expert, joined with the shared one, as a peft adapter folder."""
    config = experts.config
    rank = config.rank + config.shared_rank
    over = math.sqrt(rank) if config.rslora else rank  # peft divides by it, and the rank has grown
    config_of_peft = LoraConfig(
        r=rank,
        lora_alpha=cast(int, config.scale * over),
        use_rslora=config.rslora,
        lora_dropout=config.dropout,
        target_modules=_targets(experts),
        bias="none",
        base_model_name_or_path=resolve_name(whisper_model),
        inference_mode=True,
    )
    with tempfile.TemporaryDirectory() as made:
        config_of_peft.save_pretrained(made)
        write_bytes(folder / "adapter_config.json", (Path(made) / "adapter_config.json").read_bytes())
    weights = {
        f"base_model.model.{name}.{part}.weight": tensor
        for name, layer in experts.layers.items()
        for part, tensor in (
            ("lora_A", _rows(layer.down_RD, experts, expert)),
            ("lora_B", _rows(layer.up_RD, experts, expert).T),
        )
    }
    write_tensors({key: tensor.contiguous() for key, tensor in weights.items()}, folder / "adapter_model.safetensors")


def _rows(stacked_RD: Tensor, experts: SpeechExperts, expert: int) -> Tensor:
    """An expert's rows of a stacked matrix (zeros for the no-op expert), followed by the shared expert's."""
    config = experts.config
    own_RD = stacked_RD[config.rows_of(expert)]
    if not len(own_RD):
        own_RD = stacked_RD.new_zeros(config.rank, stacked_RD.shape[1])
    return torch.cat([own_RD, stacked_RD[config.shared_rows]]).detach().cpu()


def _targets(experts: SpeechExperts) -> list[str]:
    """Last parts of the layers' names if these are unambiguous, as in most adapters; else the full names."""
    short = {name.rpartition(".")[2] for name in experts.layers}
    named = {
        name.removesuffix(".base")
        for name, module in experts.backbone.model.named_modules()
        if not list(module.children()) and name.removesuffix(".base").rpartition(".")[2] in short
    }
    return sorted(short) if named == set(experts.layers) else list(experts.layers)


def read_gate_config(file: Path) -> GateConfig:
    """Config of a trained gate, from the file beside its weights.

    Raises:
        InputError: The file is missing or damaged.
    """
    needed = {"num_experts": int, "embedding_dim": int, "hidden_dim": int}
    trained = read_json_object(file, "python -m moe_lightning.gating fit", needed)
    names = {"embedding_window": "window", "gate": "kind", "gate_input": "source", "gate_layers": "layers"}
    return from_json(GateConfig, {names.get(name, name): value for name, value in trained.items()}, file)
