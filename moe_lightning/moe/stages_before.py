"""The joint stage starts from what the stages before it have trained."""

import torch

from moe_lightning.errors import InputError
from moe_lightning.experts.model import load_experts
from moe_lightning.moe.model import MixtureASR
from moe_lightning.run_dir import RunDir
from moe_lightning.run_inputs import require_trained


def load_stages_before(mixture: MixtureASR, run: RunDir) -> None:
    """Put the trained gate and the pre-trained experts of a run into a mixture.

    Raises:
        InputError: A stage has not finished, or its weights are of another size.
    """
    gate_file = require_trained(run.gate_file, "gating")
    experts_file = require_trained(run.pretrained_experts_file, "experts")
    try:
        mixture.gate.load_state_dict(torch.load(gate_file, map_location="cpu", weights_only=True))
        load_experts(mixture.experts, experts_file)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"gate or experts of {run.path} do not fit the joint stage: {error}; give it the settings of theirs"
        ) from error
