"""Speaker-level pooling of the gate's logits: a population is a property of speakers.

From one utterance the gate often cannot identify the speaker's group; from several it can. Speaker names are used,
their groups are not.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def logits_by_speaker(logits_NE: Tensor, speakers: Sequence[str]) -> Tensor:
    """The gate's logits pooled over a speaker's utterances, the same for each of them, (N, E).

    The sum over the log-probabilities of a speaker's n utterances, divided by sqrt(n). This lies between
    independent observations (the sum, Bayes' rule under an even prior) and n copies of one (the mean); utterances
    in one voice are partly both. For n = 1 it is the gate's own answer.

    Args:
        logits_NE: Of each utterance alone.
        speakers: Of each utterance.
    """
    names = {name: row for row, name in enumerate(dict.fromkeys(speakers))}
    speaker_N = torch.tensor([names[name] for name in speakers], device=logits_NE.device)
    log_probs_NE = logits_NE.float().log_softmax(dim=1)
    sums_SE = log_probs_NE.new_zeros(len(names), logits_NE.shape[1]).index_add_(0, speaker_N, log_probs_NE)
    counts_S = speaker_N.bincount(minlength=len(names))
    return (sums_SE / counts_S.sqrt()[:, None])[speaker_N]


def pooled(logits: Mapping[str, Tensor], speakers: Mapping[str, str]) -> dict[str, Tensor]:
    """`logits_by_speaker` for utterances by id."""
    ids = list(logits)
    pooled_NE = logits_by_speaker(torch.stack([logits[id_] for id_ in ids]), [speakers[id_] for id_ in ids])
    return dict(zip(ids, pooled_NE, strict=True))
