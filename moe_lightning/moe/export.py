"""Results of the joint stage: the mixture, its parts for other programs, and its scores."""

import torch
from lightning.pytorch import Trainer

from moe_lightning.experts.adapters import save_adapters
from moe_lightning.json_files import write_json
from moe_lightning.moe.model import MixtureASR
from moe_lightning.run_dir import RunDir


def export(mixture: MixtureASR, trainer: Trainer, run: RunDir) -> None:
    """Write the mixture, its gate, its experts as peft folders, and the best scores of its training."""
    mixture.save(run)
    torch.save(mixture.gate.state_dict(), run.joint_gate_file)
    save_adapters(mixture.experts, mixture.config.whisper_model, run)
    callback = trainer.checkpoint_callback
    best = getattr(callback, "best_model_score", None)
    scores = {
        "monitor": getattr(callback, "monitor", None),
        "best": None if best is None else round(float(best), 6),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "last_epoch": {name: round(float(value), 6) for name, value in trainer.callback_metrics.items()},
    }
    write_json(run.best_file, scores)
