"""Transcripts that a model cannot be trained on are found when a stage starts, not at the batch that holds them."""

from collections.abc import Sequence
from typing import Any

from moe_lightning.backbone.speech import SpeechBackbone
from moe_lightning.corpus import Utterance
from moe_lightning.errors import InputError

NUM_NAMED = 3


def check_transcripts(backbone: SpeechBackbone, trainer: Any) -> None:
    """Ask the model about every transcript that a training will give it.

    Args:
        trainer: With the stage's data module; loaders of someone's own are not looked through.

    Raises:
        InputError: As `check_texts`.
    """
    if trainer.datamodule is not None:
        loaders = trainer.datamodule.loaders
        check_texts(backbone, [one for split in ("train", "dev") for one in loaders.utterances(split)])


def check_texts(backbone: SpeechBackbone, utterances: Sequence[Utterance]) -> None:
    """Ask the model about the transcript of every utterance.

    Raises:
        InputError: The model cannot write some of them: over 448 tokens for Whisper, none of its characters
            for a CTC model. Nothing is left out silently: the first ones are named.
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
            f"{len(ids)} of {len(utterances)} transcripts cannot be trained on ({names}): {refused[ids[0]]}; then"
            " begin another --run-dir"
        )
