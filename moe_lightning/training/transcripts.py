"""Check at the start of a stage for transcripts that a model cannot be trained on."""

from collections.abc import Sequence
from typing import Any

from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.base import SpeechBackbone

NUM_NAMED = 3


def check_transcripts(backbone: SpeechBackbone, trainer: Any) -> None:
    """Check every transcript of the train and dev splits against the model.

    Args:
        trainer: With the stage's data module; user-supplied loaders are not checked.

    Raises:
        InputError: As `check_texts`.
    """
    if trainer.datamodule is not None:
        loaders = trainer.datamodule.loaders
        check_texts(backbone, [one for split in ("train", "dev") for one in loaders.utterances(split)])


def check_texts(backbone: SpeechBackbone, utterances: Sequence[Utterance]) -> None:
    """Check the transcript of every utterance against the model.

    Raises:
        InputError: The model cannot write some of them: over 448 tokens for Whisper, no known character for a
            CTC model. The first ones are named; none is left out silently.
    """
    refused: dict[str, str] = {}
    for utterance in utterances:
        try:
            backbone.check_text(utterance.text, utterance.language)
        except InputError as error:
            refused[utterance.id] = str(error)
    if refused:
        ids = list(refused)
        names = ", ".join(map(repr, ids[:NUM_NAMED])) + (", ..." if len(ids) > NUM_NAMED else "")
        raise InputError(
            "transcript.not-trainable",
            f"{len(ids)} of {len(utterances)} transcripts cannot be trained on ({names}): {refused[ids[0]]}; then"
            " begin another --run-dir",
            ids[0],
        )
