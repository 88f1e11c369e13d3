"""MoEDataModule: audio and transcripts with soft labels and the gate's input, for the joint stage."""

from functools import cached_property
from typing import Any

from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.models.gate import GateInput
from moe_lightning.moe.earlier_stages import EarlierStages
from moe_lightning.training.speech_data import SpeechDataModule


class MoEDataModule(SpeechDataModule):
    """Train and dev utterances of a run, for gate and experts together.

    Args:
        gate_input: The model's; stored frames are read for a gate with attention.
    """

    def __init__(self, gate_input: GateInput | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.save_hyperparameters()

    @cached_property
    def earlier(self) -> EarlierStages:
        """Settings of gate and experts, read from the run."""
        return EarlierStages.read(self.run, self.whisper_model, self.num_experts)

    @property
    def window(self) -> float:
        """Minimum seconds that the experts read, 0 for real lengths."""
        return self.earlier.window

    @property
    def with_frames(self) -> bool:
        """True if the gate reads stored frames."""
        gate = self.earlier.gate
        return (gate.kind, self.hparams["gate_input"] or gate.source) == ("attentive", "cached")

    def use_labels(self, labels: SoftLabels) -> None:
        """Replace the clustering's soft labels in all batches, also in those that are loaded already."""
        self.refined_labels = labels
