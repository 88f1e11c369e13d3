"""Experts as standard peft folders, for peft and other programs with its format.

An adapter joins one expert and the shared expert: ranks add up, and the delta of the joined matrices is the
sum of the two deltas.
"""

import math
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from moe_lightning.backbone.names import resolve_name
from moe_lightning.experts.model import SpeechExperts
from moe_lightning.run_dir import RunDir


def save_adapters(experts: SpeechExperts, whisper_model: str, run: RunDir) -> None:
    """Write every expert to ``asr/expert_<k>/``."""
    for expert in range(experts.config.num_experts):
        save_adapter(experts, expert, whisper_model, run.expert_dir(expert))


def save_adapter(experts: SpeechExperts, expert: int, whisper_model: str, folder: Path) -> None:
    """Write one expert, joined with the shared one, as a peft adapter folder."""
    config = experts.config
    rank = config.rank + config.shared_rank
    over = math.sqrt(rank) if config.rslora else rank  # peft divides by it, and the rank has grown
    LoraConfig(
        r=rank,
        lora_alpha=cast(int, config.scale * over),
        use_rslora=config.rslora,
        lora_dropout=config.dropout,
        target_modules=_targets(experts),
        bias="none",
        base_model_name_or_path=resolve_name(whisper_model),
        inference_mode=True,
    ).save_pretrained(str(folder))
    weights = {
        f"base_model.model.{name}.{part}.weight": tensor
        for name, layer in experts.layers.items()
        for part, tensor in (
            ("lora_A", _rows(layer.down_RD, experts, expert)),
            ("lora_B", _rows(layer.up_RD, experts, expert).T),
        )
    }
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, folder / "adapter_model.safetensors")


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
