"""Heat map of experts by manifest field for the dev split, in TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from moe_lightning.data.batches import SpeechBatch
from moe_lightning.data.manifest import read_manifest
from moe_lightning.data.utterance import bookkeeping_fields
from moe_lightning.errors import InputError
from moe_lightning.run.folder import RunDir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_VALUES = 12
"""A field with more values makes an unreadable picture; it is drawn only if requested by name."""
MOST_FIELDS = 4
_UNKNOWN = "unknown"


class ExpertFields(Callback):
    """Draws, for each field, each value's utterances by likeliest expert, in per cent.

    Training never uses the fields. Reads ``gate_BE`` from the output of `validation_step`, and the manifest of the
    dev split.

    Args:
        fields: Fields of the manifest, or ``speaker``; by default the first four with 2 to 12 values,
            bookkeeping fields left out.
        every_n_epochs: Epochs between two pictures.

    Raises:
        InputError: ``every_n_epochs`` is not positive; or, when the training starts, no utterance has a field
            of that name.
    """

    def __init__(self, fields: Sequence[str] | None = None, every_n_epochs: int = 1):
        if every_n_epochs < 1:
            raise InputError(
                "setting.range", f"every_n_epochs must be at least 1, got {every_n_epochs}", every_n_epochs
            )
        self.fields = None if fields is None else list(fields)
        self.every_n_epochs = every_n_epochs
        self._values: dict[str, dict[str, str]] = {}
        self._names: dict[str, list[str]] = {}
        self._counts: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the fields of the dev split."""
        run = RunDir(Path(trainer.datamodule.hparams["run_dir"]))  # type: ignore[attr-defined]
        self._values = _field_values(run, self.fields)
        self._names = {field: sorted(set(values.values())) for field, values in self._values.items()}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: SpeechBatch, *args: Any, **kwargs: Any
    ) -> None:
        """Count a batch's utterances by value and likeliest expert."""
        if trainer.sanity_checking or trainer.current_epoch % self.every_n_epochs:
            return
        gate_BE = outputs["gate_BE"]
        chosen_BE = torch.zeros_like(gate_BE, dtype=torch.float32).scatter_(1, gate_BE.argmax(dim=1, keepdim=True), 1.0)
        for field, values in self._values.items():
            names = self._names[field]
            rows_B = torch.tensor([names.index(values[id_]) for id_ in batch.ids], device=gate_BE.device)
            counts_VE = self._counts.setdefault(field, chosen_BE.new_zeros(len(names), gate_BE.shape[1]))
            counts_VE.index_add_(0, rows_B, chosen_BE)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the whole split, over all ranks."""
        counts, self._counts = self._counts, {}
        if trainer.sanity_checking or trainer.current_epoch % self.every_n_epochs:
            return
        for field, names in self._names.items():
            nothing_VE = torch.zeros(len(names), trainer.datamodule.num_experts, device=pl_module.device)  # type: ignore[attr-defined]
            counts_VE = trainer.strategy.reduce(counts.get(field, nothing_VE), reduce_op="sum")
            assert isinstance(counts_VE, Tensor)
            if isinstance(trainer.logger, TensorBoardLogger) and trainer.is_global_zero:
                figure = heat_map(field, names, counts_VE.cpu())
                trainer.logger.experiment.add_figure(f"experts_by/{field}", figure, trainer.global_step)


def heat_map(field: str, names: Sequence[str], counts_VE: Tensor) -> "Figure":
    """Rows are the field's values with their number of utterances, columns the experts, cells shares in per cent."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    totals_V1 = counts_VE.sum(dim=1, keepdim=True)
    shares_VE = (100 * counts_VE / totals_V1.clamp(min=1)).numpy()
    num_values, num_experts = shares_VE.shape
    figure = Figure(figsize=(3.0 + 0.55 * num_experts, 1.4 + 0.32 * num_values), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shares_VE, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(num_experts))
    axes.set_yticks(
        range(num_values), [f"{name[:24]} ({int(n)})" for name, n in zip(names, totals_V1[:, 0].tolist(), strict=True)]
    )
    axes.set_xlabel("likeliest expert")
    axes.set_title(f"{field}: % of its utterances")
    if num_experts <= 16:
        for row, column in [(row, column) for row in range(num_values) for column in range(num_experts)]:
            share = shares_VE[row, column]
            colour = "black" if share > 55 else "white"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, label="%")
    return figure


def _field_values(run: RunDir, wanted: Sequence[str] | None) -> dict[str, dict[str, str]]:
    """The value of every dev utterance, by field and id."""
    utterances = read_manifest(run.manifest_file("dev"))
    known = list(dict.fromkeys(name for utterance in utterances for name in utterance.fields))
    missing = [name for name in wanted or () if name not in [*known, "speaker"]]
    if missing:
        raise InputError(
            "corpus.no-field",
            f"no dev utterance has a field {missing[0]!r}; there are {', '.join([*known, 'speaker'])}",
            missing[0],
        )
    found: dict[str, dict[str, str]] = {}
    filed = bookkeeping_fields(utterances)
    for name in [name for name in known if name not in filed] if wanted is None else wanted:
        values = {u.id: str(u.fields.get(name, _UNKNOWN)) if name != "speaker" else u.speaker for u in utterances}
        if wanted is not None or 2 <= len(set(values.values())) <= min(MOST_VALUES, len(utterances) - 1):
            found[name] = values
    return found if wanted is not None else dict(list(found.items())[:MOST_FIELDS])
