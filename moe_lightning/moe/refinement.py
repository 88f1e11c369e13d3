"""Refinement by expert loss: between epochs, utterances are reassigned to experts, and the gate follows.

A round runs all experts on the train split, gives each utterance to the experts in proportion to the gate's prior
times ``exp(-loss / temperature)``, balanced over the corpus, and refits the gate's head to these soft labels. If
populations are properties of speakers, a speaker's utterances are assigned together (``by: speaker``): several
identify the best expert more surely than each one alone. The training then continues with the same optimizer and
schedule. Rounds are a function of the epoch, their soft labels are stored in the run, and a checkpoint records how
many rounds its weights have seen, so a resumed training equals one that was never stopped.

The experts were trained on these utterances, so each loss is too low under the utterance's own expert: a round tends
to confirm the one before. The temperature and the balance counteract that; the regret on the dev split, unseen in
training, shows if a round has helped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from moe_lightning.data.batches import only
from moe_lightning.data.loader import FixedLoader
from moe_lightning.data.soft_labels import SoftLabels
from moe_lightning.errors import InputError
from moe_lightning.models.experts import evaluating
from moe_lightning.models.mixture import MixtureASR
from moe_lightning.moe.refinement_round import Round, Survey, asked, decide, field_agreement, refinement_epochs
from moe_lightning.run.folder import RunDir
from moe_lightning.settings.joint import RefinementSettings
from moe_lightning.system.json_files import read_json, write_json
from moe_lightning.system.terminal import progress
from moe_lightning.training.checkpoints import keeps_files

ROWS_AT_ONCE = 65_536
"""Rows summed over the ranks at a time: bounds the memory of a device."""


class Refinement:
    """The rounds of one training.

    Args:
        seed: For the refit, and for the utterances drawn from each speaker.
    """

    def __init__(self, plan: RefinementSettings, run: RunDir, seed: int):
        self.plan = plan
        self.run = run
        self.seed = seed
        self.rounds_done = 0
        self.labels: SoftLabels | None = None
        """From the last round; None before the first."""

    def resume(self, trainer: Trainer) -> None:
        """Load the soft labels of the resumed weights."""
        if self.rounds_done:
            self._take_up(SoftLabels.load(self.run.refined_soft_labels_file(self.rounds_done)), trainer)

    def begin_epoch(self, module: LightningModule, mixture: MixtureASR) -> None:
        """Run the round that is due, if any."""
        trainer = module.trainer
        epochs = refinement_epochs(self.plan, trainer.max_epochs)
        if trainer.current_epoch in epochs and self.rounds_done <= epochs.index(trainer.current_epoch):
            self._begin_round(self.rounds_done + 1, trainer, mixture)

    def _begin_round(self, number: int, trainer: Trainer, mixture: MixtureASR) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        before = self.labels or data.inputs.soft_labels
        splits = {split: data.loaders.utterances(split) for split in ("train", "dev")}
        train, dev = (
            survey(
                mixture,
                data.loaders.fixed(split, trainer.global_rank, trainer.world_size),
                [utterance.id for utterance in utterances],
                asked(self.plan, utterances, self.seed + number),
                trainer,
                f"refinement {number}, losses of all experts on the {split} split",
            )
            for split, utterances in splits.items()
        )
        if self.plan.by == "speaker":
            train, dev = (
                one._replace(speakers=tuple(utterance.speaker for utterance in utterances))
                for one, utterances in zip((train, dev), splits.values(), strict=True)
            )
        made: Round | None = None
        if trainer.is_global_zero:
            made = decide(self.plan, mixture.gate.head, train, dev, before, self.seed + number)
            fields = field_agreement(splits["train"], made.labels)
            self._keep(number, made._replace(report={**made.report, "fields": fields}), trainer)
        made = trainer.strategy.broadcast(made)
        assert made is not None
        mixture.gate.head.load_state_dict(made.head)
        self.rounds_done = number
        self._take_up(made.labels, trainer)

    def _take_up(self, labels: SoftLabels, trainer: Trainer) -> None:
        self.labels = labels
        trainer.datamodule.use_labels(labels)  # type: ignore[attr-defined]

    def _keep(self, number: int, made: Round, trainer: Trainer) -> None:
        """Write labels and report; later rounds, from a training that was stopped, are made again."""
        if keeps_files(trainer):
            made.labels.save(self.run.refined_soft_labels_file(number))
            file = self.run.refinement_file
            before = read_rounds(file)[: number - 1] if number > 1 else []
            place = {"round": number, "epoch": trainer.current_epoch, "step": trainer.global_step}
            write_json(file, [*before, {**place, **made.report}])
        curves = {name: made.report[name] for name in ("agreement", "entropy", "gate_accuracy")}
        curves |= {f"regret_{name}": made.report[name]["regret"] for name in ("train", "dev", "dev_refitted")}
        curves |= {f"usage/expert_{expert}": share for expert, share in enumerate(made.report["usage"])}
        if trainer.logger is not None:
            values = {f"refinement/{name}": value for name, value in curves.items()}
            trainer.logger.log_metrics(values, step=trainer.global_step)
        print(
            f"refinement {number}: {curves['agreement']:.0%} of the train utterances keep their expert; regret of the"
            f" gate {curves['regret_train']:.3f} nats a token on train, {curves['regret_dev']:.3f} on dev and"
            f" {curves['regret_dev_refitted']:.3f} once it is refitted"
        )


def read_rounds(file: Path) -> list[Any]:
    rounds = read_json(file, "moe-lightning pipeline")
    if not isinstance(rounds, list):
        raise InputError("file.malformed", f"{file} must be a list of rounds; run `moe-lightning pipeline` again", file)
    return rounds


@torch.no_grad()
def survey(
    mixture: MixtureASR, loader: FixedLoader, ids: Sequence[str], asked: frozenset[str], trainer: Trainer, name: str
) -> Survey:
    """Run every expert once on utterances of a split: no dropout, no augmentation, no gradient.

    Args:
        loader: This rank's part of the split.
        ids: All utterances of the split.
        asked: Utterances for the experts.
        name: For the progress bar.

    Returns:
        The whole split, on every rank.
    """
    rows = {id_: row for row, id_ in enumerate(ids)}
    losses_NE = torch.zeros(len(ids), mixture.config.experts.num_experts)
    pooled_NP = torch.zeros(len(ids), mixture.gate.head.mean_D.shape[0])
    for batch in progress(loader, name) if trainer.is_global_zero else loader:
        rows_B = [rows[id_] for id_ in batch.ids]
        trainer.datamodule.last_batch = batch  # type: ignore[attr-defined]
        batch = trainer.strategy.batch_to_device(batch)
        with trainer.precision_plugin.forward_context(), evaluating(mixture):
            pooled_NP[rows_B] = mixture.gate.pool(mixture.read(batch).readable).float().cpu()
            part = only(batch, [place for place, id_ in enumerate(batch.ids) if id_ in asked])
            if part.ids:
                losses_NE[[rows[id_] for id_ in part.ids]] = mixture.experts.losses_alone(part).float().cpu()
    losses_NE = _over_ranks(losses_NE, trainer)
    losses_NE[[row for id_, row in rows.items() if id_ not in asked]] = torch.nan
    return Survey(tuple(ids), losses_NE.numpy(), _over_ranks(pooled_NP, trainer))


def _over_ranks(rows_NX: Tensor, trainer: Trainer) -> Tensor:
    """The rows filled by each rank, joined."""
    if trainer.world_size == 1:
        return rows_NX
    device = trainer.strategy.root_device
    parts = [trainer.strategy.reduce(part.to(device), reduce_op="sum") for part in rows_NX.split(ROWS_AT_ONCE)]
    return torch.cat([part.cpu() for part in parts if isinstance(part, Tensor)])
