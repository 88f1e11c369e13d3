"""One round of refinement, from known losses: new soft labels, a refitted head, and a report."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.data.utterance import Utterance, bookkeeping_fields
from moe_lightning.errors import InputError
from moe_lightning.models.gate import Gate
from moe_lightning.models.routing import logits_by_speaker, normalised_entropy, soft_label_divergence
from moe_lightning.moe.responsibilities import balanced, judge, responsibilities, wanted_shares
from moe_lightning.settings.joint import RefinementSettings

MIN_UTTERANCES = 3
"""A field with fewer utterances per value on average makes no groups."""


class Survey(NamedTuple):
    """All experts on one split, utterances in the order of its manifest."""

    ids: tuple[str, ...]
    losses_NE: np.ndarray
    """Nats per token of each utterance under each expert alone; NaN where the experts did not run."""
    pooled_NP: Tensor
    """Input of the gate's head."""
    speakers: tuple[str, ...] | None = None
    """Of each utterance, if the utterances of a speaker are judged together; None if each is judged alone."""

    def gates(self, head: Gate) -> np.ndarray:
        """A head's softmax, (N, E); with speaker-level pooling if there are speakers."""
        device = head.mean_D.device
        with torch.no_grad():
            logits_NE = torch.cat([head(part.to(device)).cpu() for part in self.pooled_NP.split(4096)])
        if self.speakers is not None:
            logits_NE = logits_by_speaker(logits_NE, self.speakers)
        return logits_NE.softmax(dim=1).numpy()

    def judged_losses(self) -> np.ndarray:
        """``losses_NE``, or their mean over the judged utterances of each one's speaker."""
        if self.speakers is None:
            return self.losses_NE
        sums_NE, counts_N1 = self._over_speakers()
        with np.errstate(invalid="ignore"):
            return sums_NE / counts_N1

    def shares(self, priors_NE: np.ndarray, temperature: float) -> np.ndarray:
        """Soft assignment of utterances to experts, (N, E): `responsibilities`.

        For speakers, by the sum of the losses and without a prior: the gate's would outweigh the differences between
        experts, and losses on training utterances already favour the present expert.
        """
        if self.speakers is None:
            return responsibilities(priors_NE, self.losses_NE, temperature)
        sums_NE, counts_N1 = self._over_speakers()
        even_NE = np.full_like(sums_NE, 1 / sums_NE.shape[1])
        return responsibilities(np.where(counts_N1 > 0, even_NE, priors_NE), sums_NE, temperature)

    def _over_speakers(self) -> tuple[np.ndarray, np.ndarray]:
        """For each utterance, the sum of its speaker's known losses, (N, E), and their number, (N, 1)."""
        assert self.speakers is not None
        _, speaker_N = np.unique(np.array(self.speakers), return_inverse=True)
        is_known_N = np.isfinite(self.losses_NE).all(axis=1)
        sums_SE = np.zeros((speaker_N.max() + 1, self.losses_NE.shape[1]))
        np.add.at(sums_SE, speaker_N[is_known_N], self.losses_NE[is_known_N].astype(np.float64))
        counts_S = np.bincount(speaker_N[is_known_N], minlength=len(sums_SE))
        return sums_SE[speaker_N], counts_S[speaker_N][:, None]


def asked(plan: RefinementSettings, utterances: Sequence[Utterance], seed: int) -> frozenset[str]:
    """Ids of the utterances for the experts: all, or a random few of each speaker."""
    if plan.by == "utterance":
        return frozenset(utterance.id for utterance in utterances)
    counts: Counter[str] = Counter()
    asked = []
    for row in np.random.default_rng(seed).permutation(len(utterances)).tolist():
        counts[utterances[row].speaker] += 1
        if counts[utterances[row].speaker] <= plan.per_speaker:
            asked.append(utterances[row].id)
    return frozenset(asked)


def refinement_epochs(plan: RefinementSettings, max_epochs: int | None) -> tuple[int, ...]:
    """Epochs that begin with a round: evenly spread, from the first one on.

    Raises:
        InputError: There are more rounds than epochs.
    """
    if not plan.num_rounds:
        return ()
    if not max_epochs or not plan.num_rounds <= max_epochs:
        raise InputError(
            "setting.conflict",
            f"refinement.num_rounds is {plan.num_rounds} and max_epochs {max_epochs}: each round begins an epoch, so"
            " there must be as many epochs at least",
            f"refinement.num_rounds={plan.num_rounds}",
        )
    return tuple(max_epochs * number // plan.num_rounds for number in range(plan.num_rounds))


class Round(NamedTuple):
    """Result of a round."""

    labels: SoftLabels
    """For all utterances with earlier soft labels; those outside the survey keep theirs."""
    head: dict[str, Tensor]
    """State of the gate's head."""
    report: dict[str, Any]


def decide(plan: RefinementSettings, head: Gate, train: Survey, dev: Survey, before: SoftLabels, seed: int) -> Round:
    """New soft labels for both splits, and a head trained on the train split's.

    The dev split's are not balanced, and the head does not see them: they are for the curves.

    Args:
        head: As the training has left it; it is not changed.

    Returns:
        In the report, ``train`` and ``dev`` judge the old head, ``dev_refitted`` the new one, by the same
        experts' losses; ``gate_accuracy`` is the share of dev utterances with one likeliest expert in the new
        head and in the new soft labels.
    """
    priors, dev_priors_NE = train.gates(head), dev.gates(head)
    probs_NE = train.shares(priors, plan.temperature)
    probs_NE = balanced(probs_NE, wanted_shares(probs_NE, plan.balance)).astype(np.float32)
    dev_probs_NE = dev.shares(dev_priors_NE, plan.temperature).astype(np.float32)
    train_losses_NE, dev_losses_NE = train.judged_losses(), dev.judged_losses()
    labels = relabelled(relabelled(before, train.ids, probs_NE), dev.ids, dev_probs_NE)
    state = refit(
        head,
        train.pooled_NP,
        torch.from_numpy(probs_NE),
        plan.gate_epochs,
        plan.gate_learning_rate,
        seed,
    )
    refitted_NE = dev.gates(_with_state(head, state))
    report = {
        "temperature": plan.temperature,
        "balance": plan.balance,
        "by": plan.by,
        "agreement": _same(before.of(train.ids), probs_NE),
        "usage": probs_NE.mean(axis=0).round(6).tolist(),
        "entropy": float(normalised_entropy(torch.from_numpy(probs_NE)).mean()),
        "without_finite_loss": int((~np.isfinite(train_losses_NE).all(axis=1)).sum()),
        "train": judge(priors, train_losses_NE)._asdict(),
        "dev": judge(dev_priors_NE, dev_losses_NE)._asdict(),
        "dev_refitted": judge(refitted_NE, dev_losses_NE)._asdict(),
        "gate_accuracy": _same(refitted_NE, dev_probs_NE),
    }
    return Round(labels, state, report)


def relabelled(labels: SoftLabels, ids: Sequence[str], probs_NE: np.ndarray) -> SoftLabels:
    """Soft labels with new rows for some utterances."""
    rows = {id_: row for row, id_ in enumerate(labels.ids)}
    all_NE = labels.probs_NE.copy()
    all_NE[[rows[id_] for id_ in ids]] = probs_NE
    return SoftLabels(labels.ids, all_NE)


def field_agreement(utterances: Sequence[Utterance], labels: SoftLabels) -> dict[str, float]:
    """Adjusted mutual information of the likeliest experts with each field that makes groups; for the report alone."""
    from sklearn.metrics import adjusted_mutual_info_score

    experts_N = labels.of([utterance.id for utterance in utterances]).argmax(axis=1)
    names = sorted({name for one in utterances for name in one.fields} - bookkeeping_fields(utterances))
    columns = {name: [str(utterance.fields.get(name)) for utterance in utterances] for name in names}
    columns["speaker"] = [utterance.speaker for utterance in utterances]
    return {
        name: round(float(adjusted_mutual_info_score(values, experts_N)), 4)
        for name, values in columns.items()
        if 2 <= len(set(values)) <= len(utterances) / MIN_UTTERANCES
    }


def _with_state(head: Gate, state: dict[str, Tensor]) -> Gate:
    other = copy.deepcopy(head)
    other.load_state_dict(state)
    return other


def _same(one_NE: np.ndarray, other_NE: np.ndarray) -> float:
    return float((one_NE.argmax(axis=1) == other_NE.argmax(axis=1)).mean())


BATCH_SIZE = 256


def refit(
    head: Gate, pooled_NP: Tensor, soft_labels_NE: Tensor, num_epochs: int, learning_rate: float, seed: int
) -> dict[str, Tensor]:
    """State of a copy of the head after training with AdamW on the soft labels; the head itself is unchanged.

    The result depends only on the arguments, not on the global random state. Hooks of distributed training do not see
    it, so every rank, or a single one, may call it.

    Args:
        pooled_NP: Input of the head, per utterance.
    """
    device_types = [pooled_NP.device] if pooled_NP.device.type == "cuda" else []
    with torch.random.fork_rng(devices=device_types), torch.enable_grad():
        torch.manual_seed(seed)
        own = copy.deepcopy(head).to(pooled_NP.device).train()
        optimizer = torch.optim.AdamW(own.parameters(), lr=learning_rate, weight_decay=0.01)
        for _ in range(num_epochs):
            for rows in torch.randperm(len(pooled_NP)).split(BATCH_SIZE):
                optimizer.zero_grad()
                soft_label_divergence(own(pooled_NP[rows]), soft_labels_NE[rows]).backward()
                optimizer.step()
    return {name: tensor.detach().cpu() for name, tensor in own.state_dict().items()}
