"""ExpertDataModule: audio and transcripts with soft labels, for all experts or for a single one."""

from typing import Any

from moe_lightning.errors import InputError
from moe_lightning.models.backbones.loading import resolve_window
from moe_lightning.models.backbones.window import Window
from moe_lightning.training.speech_data import SpeechDataModule
from moe_lightning.training.speech_loaders import ExpertChoice


class ExpertDataModule(SpeechDataModule):
    """Train and dev utterances of a run, for the pre-training of experts.

    Args:
        group_by_expert: Put utterances with the same likeliest expert into a batch.
        expert: Use only utterances that are assigned to this expert, to train it alone.
        experts_per_utterance: Experts assigned to each utterance; follows from the model's assignment.
        audio_window: The model's window; batches cost at least so many seconds.
    """

    def __init__(
        self,
        group_by_expert: bool = False,
        expert: int | None = None,
        experts_per_utterance: int | None = 1,
        audio_window: Window = "auto",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.save_hyperparameters()

    @property
    def expert(self) -> int | None:
        """The single expert to train, None for all.

        Raises:
            InputError: There is no such expert.
        """
        expert = self.hparams["expert"]
        if expert is not None and not 0 <= expert < self.num_experts:
            raise InputError(
                "experts.number",
                f"data.expert must be in 0..{self.num_experts - 1}, the columns of the soft labels, got {expert}",
                expert,
            )
        return None if expert is None else int(expert)

    @property
    def choice(self) -> ExpertChoice:
        """Selection of utterances by their experts."""
        return ExpertChoice(self.hparams["group_by_expert"], self.expert, self.hparams["experts_per_utterance"])

    @property
    def window(self) -> float:
        """Minimum seconds that the model reads, 0 for real lengths."""
        return resolve_window(self.hparams["audio_window"], self.whisper_model)
