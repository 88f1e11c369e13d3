"""StageCLI: LightningCLI with fixed folders and a safe resume.

Lightning searches a new ``version_N`` folder for the last checkpoint. If it finds none there, it starts
over without a warning. Here a stage writes to one folder in its run, so ``--ckpt_path last`` finds the
checkpoint. A stage with changed settings is refused, not resumed.
"""

import inspect
import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from moe_lightning.errors import InputError
from moe_lightning.models.weights import read_checkpoint, refusing_pickles
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import require_trained
from moe_lightning.run.record import check_inputs, is_first_process, recorded_stage
from moe_lightning.run.stages import Stage
from moe_lightning.settings.command_line import complaint_of_argparse, with_shipped_configs
from moe_lightning.settings.comparison import StageSettings, command_settings, cut_short, fit_settings, flat_settings
from moe_lightning.settings.joint import decided_before
from moe_lightning.system.atomic_file import write_text
from moe_lightning.system.exits import exits_cleanly
from moe_lightning.system.signals import STOP, Stopped, name_as_parent
from moe_lightning.system.terminal import quiet_libraries
from moe_lightning.training.checkpoints import (
    LAST,
    CheckpointFiles,
    ExactResume,
    StageCheckpoint,
    checkpoint_to_resume,
    keep_nothing,
    keeps_files,
    require_whole,
)
from moe_lightning.training.memory import TRAINING, check_cpu_processes, explained
from moe_lightning.training.skipped_batches import check_finite
from moe_lightning.training.stopping import (
    StopBySignal,
    naming_monitor,
    quiet_rank,
    taken_time_limit,
    telling_of_lost_ranks,
)

FROM_DATA = ("num_experts", "embedding_dim", "pooling", "embedding_window", "embedding_layer", "expert", "earlier")
"""Model arguments taken from the data module, never from a second place."""


_CHECKPOINT_DEFAULTS = {
    "checkpoint.filename": "best",
    "checkpoint.monitor": "val/loss",
    "checkpoint.enable_version_counter": False,
    "resume.filename": "last",  # the name for `--ckpt_path last`
    "resume.every_n_epochs": 1,
    "resume.save_on_train_epoch_end": True,
    "resume.enable_version_counter": False,
    "early_stopping.monitor": "val/loss",
    "early_stopping.patience": 5,
}


class StageParser(LightningArgumentParser):
    """A parser with errors on one line; jsonargparse prints a hundred lines of usage first."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and exit with code 2. Parsers that jsonargparse uses to try types raise instead."""
        if not self.exit_on_error:
            super().error(message, ex)
        words = " ".join(message.split()).rstrip(".")
        if "moe_lightning.moe" in self.prog and (decided := decided_before(words)):
            words = f"{words}: {decided}"
        told = f"{words}; see `{self.prog.split(' [')[0]} fit --help` [{complaint_of_argparse(words)[0]}]"
        print(f"error: {told}", file=sys.stderr)
        sys.exit(2)


class StageCLI(LightningCLI):
    """The command for one trained stage: ``fit`` and ``validate``.

    Args:
        stage: Its folder in the run holds checkpoints and config; TensorBoard logs go to the run's own folder.
    """

    def __init__(
        self,
        stage: Stage,
        model_class: type[LightningModule],
        datamodule_class: type[LightningDataModule],
        args: Sequence[str] | None = None,
    ):
        self.stage = stage
        self.arguments = sys.argv[1:] if args is None else list(args)
        command_settings(self.arguments)  # names a config file that is missing or not YAML; jsonargparse does not
        super().__init__(
            model_class,
            datamodule_class,
            parser_class=StageParser,
            parser_kwargs={"prog": f"python -m moe_lightning.{stage}"},
            save_config_callback=SaveStageConfig,
            save_config_kwargs={"save_to_log_dir": False, "stage": stage},
            trainer_defaults={
                "use_distributed_sampler": False,  # the loaders know their rank
                "reload_dataloaders_every_n_epochs": 1,  # and that epochs may differ in length
            },
            seed_everything_default=42,
            auto_configure_optimizers=False,
            args=None if args is None else list(args),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--run_dir``; link model arguments to the values that the data module computes."""
        parser.add_argument("--run_dir", type=str, default="lightning_logs/full", help="folder of the run")
        parser.add_lightning_class_args(StageCheckpoint, "checkpoint")
        parser.add_lightning_class_args(StageCheckpoint, "resume")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.set_defaults(_CHECKPOINT_DEFAULTS)
        parser.link_arguments("run_dir", "data.run_dir")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        arguments = inspect.signature(self._model_class).parameters
        if "run_dir" in arguments:
            parser.link_arguments("run_dir", "model.run_dir")
        if "assignment" in arguments:
            assignment = ("model.assignment", "model.top_k")
            parser.link_arguments(assignment, "data.experts_per_utterance", compute_fn=_experts_per_utterance)
        for name in ("whisper_model", "gate", "gate_input"):  # the data module reads the same input as the gate
            if name in arguments:
                parser.link_arguments(f"model.{name}", f"data.{name}")
        if "window" in arguments:
            parser.link_arguments("model.window", "data.audio_window")
        for name in FROM_DATA:
            if name in arguments:
                parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    @property
    def run(self) -> RunDir:
        return _run_of(self.config.get(str(self.subcommand), self.config), self.stage)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, with logs and checkpoints in the run's folders."""
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError) as error:  # unavailable devices or an unknown strategy
            raise InputError("setting.conflict", f"the Trainer refuses its settings: {error}", "trainer") from error
        check_cpu_processes(trainer)
        if self.subcommand != "fit":  # a separate validation adds no point to the training curves
            trainer.loggers = []
        elif trainer.logger is not None and self._get(self.config_init, "trainer.logger") in (None, True):
            folder = self.stage if self.run.expert is None else f"{self.stage}_alone_{self.run.expert}"
            trainer.loggers = [TensorBoardLogger(self.run.tensorboard_dir, name=folder, version="")]
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run.checkpoint_dir(self.stage).absolute())
        trainer.strategy.checkpoint_io = CheckpointFiles()
        last: Path | None = self.run.checkpoint_dir(self.stage) / LAST
        if self.subcommand == "fit" and cut_short(self.settings.all):
            keep_nothing(trainer)
            last = None
        stop = StopBySignal(last, taken_time_limit(trainer))
        trainer.callbacks += [stop, ExactResume()]  # type: ignore[attr-defined]  # in this order
        return trainer

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """``fit`` and ``validate``; ``moe-lightning evaluate`` scores the test utterances."""
        return {name: LightningCLI.subcommands()[name] for name in ("fit", "validate")}

    def _parse_ckpt_path(self) -> None:
        """Keep the config over the hyper-parameters in a checkpoint; only our checkpoints and ``last`` are resumed."""

    @cached_property
    def settings(self) -> StageSettings:
        """Settings for ``fit``."""
        declared = {"model": self._model_class, "data": self._datamodule_class}
        return fit_settings(self._parser("fit"), self.config.fit, self.arguments, declared)

    def fit(self, model: LightningModule, **kwargs: Any) -> None:
        """Train unless finished, then write the files for the next stages; a debug run leaves the run unchanged."""
        if words := cut_short(self.settings.all):
            self._try_out(model, kwargs, words)
            return
        with recorded_stage(self.run, self.stage, self.settings) as has_work:
            if has_work:
                if kwargs.get("ckpt_path") == "last":
                    kwargs["ckpt_path"] = self._last_checkpoint()
                self._train(model, kwargs)
                self._export(model)

    def _try_out(self, model: LightningModule, kwargs: dict[str, Any], words: str) -> None:
        """Train without a record, checkpoints, logs or exported weights."""
        check_inputs(self.run, self.stage)
        if is_first_process():
            print(f"{self.stage}: a debug run, cut short by {words}; nothing of it is kept", flush=True)
        from_start = kwargs.get("ckpt_path") == "last"
        self._train(model, {**kwargs, "ckpt_path": None} if from_start else kwargs)

    def _last_checkpoint(self) -> str | None:
        """Checkpoint to resume from; None to start from the beginning."""
        file = checkpoint_to_resume(self.run.checkpoint_dir(self.stage))
        if file and file.name != LAST:
            rank_zero_warn(f"{file.with_name(LAST)} is damaged or gone; the training goes on from {file}, before it")
        return str(file) if file else None

    def _train(self, model: LightningModule, kwargs: dict[str, Any]) -> None:
        name_as_parent(os.environ)  # the ranks that Lightning starts end with this process
        try:
            in_words = explained(lambda: getattr(self.datamodule, "last_batch", None), TRAINING)
            told, plain = telling_of_lost_ranks(self.trainer), refusing_pickles(kwargs.get("ckpt_path"))
            with STOP.postponed(), quiet_rank(self.trainer), told, plain, in_words, naming_monitor(self.trainer):
                self.trainer.fit(model, **{**kwargs, "weights_only": True})
        except Stopped:
            if keeps_files(self.trainer):
                print(f"the training stopped at step {self.trainer.global_step}; the same command goes on from there")
            raise

    def validate(self, model: LightningModule, **kwargs: Any) -> None:
        """Score the trained weights or a checkpoint: ``best``, ``last`` or a file."""
        if kwargs.get("ckpt_path") in ("best", "last"):
            file = self.run.checkpoint_dir(self.stage) / f"{kwargs['ckpt_path']}.ckpt"
            kwargs["ckpt_path"] = str(require_trained(file, self.stage))
        with refusing_pickles(kwargs.get("ckpt_path")):
            self.trainer.validate(model, **{**kwargs, "weights_only": True})

    def _export(self, model: LightningModule) -> None:
        """Write the best epoch's weights in the format of the next stages."""
        callback = self._get(self.config_init, "checkpoint")
        best, score = callback.best_model_path, callback.best_model_score
        if score is not None and not math.isfinite(float(score)):
            raise InputError(
                "training.not-finite",
                f"no epoch of the stage {self.stage} had a finite {callback.monitor}: the training has not converged;"
                " lower the learning rate, or train in another precision (bf16-mixed, 32-true), in another --run-dir",
                callback.monitor,
            )
        if not (best and Path(best).exists()):
            rank_zero_warn("no epoch was validated, so there is no best one: the last epoch's weights are written")
        elif not getattr(model, "keeps_best", False):  # such a model has better weights than one epoch's
            checkpoint = read_checkpoint(require_whole(Path(best)), f"moe-lightning {self.stage}")
            model.load_state_dict(checkpoint["state_dict"], strict=False)
            check_finite(model, self.stage)
        if self.trainer.is_global_zero:
            model.export(self.run)  # type: ignore[operator]
        self.trainer.strategy.barrier("export")


def _run_of(config: Any, stage: Stage) -> RunDir:
    """The run that a command works on; a job for a single expert has its own folders in it."""
    expert = config.get("data.expert") if stage == "experts" else None
    return RunDir(Path(config.get("run_dir")), None if expert is None else int(expert))


def _experts_per_utterance(assignment: str, top_k: int) -> int | None:
    """Experts per utterance under ``hard`` and ``top_k``; None for all experts."""
    return {"hard": 1, "top_k": top_k}.get(assignment)


def _seed(seed_everything: bool | int) -> int:
    """The seed as an integer: LightningCLI also accepts true and false, both 42 here."""
    return 42 if isinstance(seed_everything, bool) else seed_everything


class SaveStageConfig(SaveConfigCallback):
    """Save the resolved config of ``fit`` beside the stage's checkpoints; other commands save none."""

    def __init__(self, *args: Any, stage: Stage, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.stage = stage

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and not cut_short(flat_settings(self.config.as_dict())):
            folder = _run_of(self.config, self.stage).stage_dir(self.stage)
            write_text(folder / "config.yaml", self.parser.dump(self.config, skip_none=False))


def stage_command(
    stage: Stage, model_class: type[LightningModule], datamodule_class: type[LightningDataModule]
) -> Callable[..., None]:
    """The ``main`` for a stage's ``__main__.py``; takes a list of arguments, by default the command line."""

    @exits_cleanly
    def main(argv: Sequence[str] | None = None) -> None:
        quiet_libraries()
        try:
            if argv is None:  # LightningCLI wants a command line where it lies
                sys.argv[1:] = with_shipped_configs(sys.argv[1:])
            StageCLI(stage, model_class, datamodule_class, argv and with_shipped_configs(argv))
        except MisconfigurationException as error:  # devices or a Trainer setting unavailable on this machine
            raise InputError("setting.conflict", str(error), "trainer") from error

    return main
