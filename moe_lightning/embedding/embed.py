"""Run the encoder over a corpus and write the store."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from moe_lightning.backbone.names import model_revision
from moe_lightning.backbone.window import LONGEST, window_words
from moe_lightning.corpus import SPLITS
from moe_lightning.embedding.data import EmbeddingDataModule
from moe_lightning.embedding.gradients import GradientModule
from moe_lightning.embedding.languages import settle_languages
from moe_lightning.embedding.module import EmbeddingModule
from moe_lightning.embedding.restart import check_folder, finish_store, prepare_folder
from moe_lightning.embedding.writer import ShardSettings, StoreWriter
from moe_lightning.errors import InputError
from moe_lightning.faults.folder_lock import locked
from moe_lightning.faults.signals import STOP, name_as_parent
from moe_lightning.hush import hush
from moe_lightning.out_of_memory import explained
from moe_lightning.run_dir import RunDir
from moe_lightning.split import read_split
from moe_lightning.store.embedding_store import GRADIENTS_DIR, StoreInfo
from moe_lightning.training.cpu_processes import check_cpu_processes
from moe_lightning.training.stopping import quiet_rank, telling_of_lost_ranks
from moe_lightning.transcripts import check_texts

_TOO_LARGE = (
    "lower --batch-size or --max-seconds, or take --precision bf16-mixed; the same command then goes on behind the"
    " shards that are finished"
)
_TOO_LARGE_BACKWARDS = (
    "gradients need the decoder backwards, in float32: lower --batch-size or --max-seconds; the same command then goes"
    " on behind the shards that are finished"
)


def embed(options: argparse.Namespace) -> None:
    """Embed the utterances of a run that have no embedding yet; several ranks share the work.

    Raises:
        InputError: ``flatten`` without a fixed window: embedding sizes would differ. Unavailable devices, precision
            or layer. The folder holds other embeddings, or another run writes to it. With ``--gradients``, a
            transcript that the model cannot write.
        OSError: The disk is full; finished shards stay.
    """
    _check(options)
    hush()
    module = EmbeddingModule(options.whisper_model, options.pooling, options.window, options.embedding_layer)
    _check_flatten(options.pooling, module.backbone.window)
    run = RunDir(Path(options.run_dir))
    folder = run.embedding_dir(options.whisper_model)
    info = _info(options, module)
    gradients_info = replace(info, embedding_layer="last", pooling="mean", kind="gradients", frames_dtype=None)
    trainer = _trainer(options)  # one for both passes: only it knows the ranks that it started
    if trainer.is_global_zero:
        check_folder(folder, info)
        if options.gradients:
            check_folder(folder / GRADIENTS_DIR, gradients_info)
    settle_languages(run, module.backbone, options)  # writes a file: after all checks that do not need it
    if options.gradients and trainer.is_global_zero:  # other ranks may be here before the languages are written
        check_texts(module.backbone, read_split(run, "train"))
    name_as_parent(os.environ)
    _fill(trainer, folder, info, module, options, SPLITS)
    if options.gradients:
        _fill(trainer, folder / GRADIENTS_DIR, gradients_info, GradientModule(module.backbone), options, ("train",))


def _fill(
    trainer: Trainer,
    folder: Path,
    info: StoreInfo,
    module: EmbeddingModule | GradientModule,
    options: argparse.Namespace,
    splits: tuple[str, ...],
) -> None:
    """Complete the store in a folder, with vectors for all utterances of the given splits."""
    data = EmbeddingDataModule(
        options.run_dir, str(folder), options.batch_size, options.max_seconds, options.num_workers, info.window, splits
    )
    writer = StoreWriter(folder, ShardSettings(info.precision, info.frames_dtype, options.shard_size))
    others = [callback for callback in trainer.callbacks if not isinstance(callback, StoreWriter)]  # type: ignore[attr-defined]
    trainer.callbacks = [*others, writer]  # type: ignore[attr-defined]
    if not trainer.is_global_zero:
        _predict(trainer, module, data)
        return
    with locked(folder):
        prepare_folder(folder, info)
        _predict(trainer, module, data)
        finish_store(folder, data.splits, info)


def _predict(trainer: Trainer, module: EmbeddingModule | GradientModule, data: EmbeddingDataModule) -> None:
    way_out = _TOO_LARGE if isinstance(module, EmbeddingModule) else _TOO_LARGE_BACKWARDS
    in_words = explained(lambda: module.batch, way_out)
    with STOP.postponed(), quiet_rank(trainer), telling_of_lost_ranks(trainer), in_words:
        trainer.predict(module, data, return_predictions=False)
        trainer.strategy.barrier("shards")


def _check_flatten(pooling: str, window: float) -> None:
    if pooling == "flatten" and window != LONGEST:
        raise InputError(
            f"--pooling flatten joins all frames of a fixed window, and the window is {window_words(window)}; add"
            f" --window {LONGEST:g}, or use --pooling mean"
        )


def _check(options: argparse.Namespace) -> None:
    if options.precision.endswith("-true") and not options.precision.startswith("32"):
        raise InputError(
            f"--precision {options.precision} would also round the audio; use bf16-mixed, 16-mixed or 32-true"
        )
    for name, least in (("shard_size", 1), ("batch_size", 1), ("num_workers", 0)):
        if (value := getattr(options, name)) < least:
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    if options.max_seconds is not None and not options.max_seconds > 0:
        raise InputError(f"--max-seconds must be over 0, got {options.max_seconds:g}")


def _info(options: argparse.Namespace, module: EmbeddingModule) -> StoreInfo:
    return StoreInfo(
        whisper_model=options.whisper_model,
        pooling=options.pooling,
        window=module.backbone.window,
        embedding_layer=module.embedding_layer,
        revision=model_revision(options.whisper_model),
        precision=options.precision,
        kind=options.store,
        frames_dtype=options.frames_dtype if options.store == "frames" else None,
    )


def _trainer(options: argparse.Namespace) -> Trainer:
    try:
        trainer = Trainer(
            accelerator=options.accelerator,
            devices=int(options.devices) if options.devices.isdigit() else options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            precision=options.precision,
            deterministic=options.deterministic or None,
            use_distributed_sampler=False,  # the loader knows its rank
            logger=False,
            inference_mode=False,  # gradients cannot use a tensor from inference mode
            callbacks=[TQDMProgressBar(refresh_rate=10)],
        )
    except (TypeError, ValueError, MisconfigurationException) as error:  # not available on this machine or in Lightning
        names = ("accelerator", "devices", "num_nodes", "strategy", "precision")
        asked = " ".join(f"--{name.replace('_', '-')} {getattr(options, name)}" for name in names)
        raise InputError(f"{asked}: {error}") from error
    check_cpu_processes(trainer)
    return trainer
