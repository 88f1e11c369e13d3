"""The gate hears all that a speaker says before it chooses: a population is a property of speakers.

From one utterance the gate often cannot tell which group its speaker is of; from several it can. Who speaks is
used, and nothing of which group the speaker is of.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def logits_by_speaker(logits_NE: Tensor, speakers: Sequence[str]) -> Tensor:
    """The gate's logits when it hears all utterances of a speaker together, the same for each of them, (N, E).

    The sum of the log-probabilities over a speaker's n utterances, divided by the root of n: between independent
    witnesses (the sum, Bayes' rule under an even prior) and one witness heard n times (the mean), which utterances
    of one voice both partly are. For n = 1 it is the gate's own answer.

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
    """`logits_by_speaker` of utterances by their ids."""
    ids = list(logits)
    pooled_NE = logits_by_speaker(torch.stack([logits[id_] for id_ in ids]), [speakers[id_] for id_ in ids])
    return dict(zip(ids, pooled_NE, strict=True))
