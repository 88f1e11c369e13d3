"""Check at the start of a stage for transcripts that a model cannot be trained on."""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from moe_lightning.data.utterance import Utterance
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.base import SpeechBackbone

NUM_NAMED = 3
NUM_CHARACTERS = 12


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
    left_out: Counter[str] = Counter()
    num_changed = 0
    for utterance in utterances:
        try:
            if not utterance.text.strip():
                raise InputError("transcript.empty", "it is empty; give every utterance its transcript", utterance.id)
            backbone.check_text(utterance.text, utterance.language)
        except InputError as error:
            refused[utterance.id] = str(error)
            continue
        characters = backbone.left_out_of(utterance.text)
        left_out.update(characters)
        num_changed += bool(characters)
    if refused:
        ids = list(refused)
        names = ", ".join(map(repr, ids[:NUM_NAMED])) + (", ..." if len(ids) > NUM_NAMED else "")
        raise InputError(
            "transcript.not-trainable",
            f"{len(ids)} of {len(utterances)} transcripts cannot be trained on ({names}): {refused[ids[0]]}; then"
            " begin another --run-dir",
            ids[0],
        )
    if num_changed:
        most = " ".join(character for character, _ in left_out.most_common(NUM_CHARACTERS))
        print(
            f"{num_changed} of {len(utterances)} transcripts hold characters that this speech model's decoding forbids"
            f" ({most}): they are left out of the labels, and count as errors only in the raw scores",
            file=sys.stderr,
        )
