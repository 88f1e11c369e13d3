"""Run the encoder over a corpus and write the store."""

import os
from dataclasses import replace
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from moe_lightning.data.embedding_store import StoreInfo
from moe_lightning.data.store_info import GRADIENTS_DIR
from moe_lightning.data.utterance import SPLITS
from moe_lightning.embedding.data import EmbeddingDataModule
from moe_lightning.embedding.gradients import GradientModule
from moe_lightning.embedding.languages import settle_languages
from moe_lightning.embedding.module import EmbeddingModule
from moe_lightning.embedding.restart import check_folder, finish_store, prepare_folder
from moe_lightning.embedding.writer import ShardSettings, StoreWriter
from moe_lightning.errors import InputError
from moe_lightning.models.backbones.names import model_revision
from moe_lightning.models.backbones.window import LONGEST, window_words
from moe_lightning.run.folder import RunDir
from moe_lightning.run.inputs import read_split
from moe_lightning.settings.embedding import EmbeddingSettings
from moe_lightning.system.locks import locked
from moe_lightning.system.signals import STOP, name_as_parent
from moe_lightning.system.terminal import quiet_libraries
from moe_lightning.training.memory import check_cpu_processes, explained
from moe_lightning.training.stopping import quiet_rank, telling_of_lost_ranks
from moe_lightning.training.transcripts import check_texts

_TOO_LARGE = (
    "lower --batch-size or --max-seconds, or take --precision bf16-mixed; the same command then goes on behind the"
    " shards that are finished"
)
_TOO_LARGE_BACKWARDS = (
    "gradients need the decoder backwards, in float32: lower --batch-size or --max-seconds; the same command then goes"
    " on behind the shards that are finished"
)


def embed(settings: EmbeddingSettings) -> None:
    """Embed the utterances of a run that have no embedding yet; several ranks share the work.

    Raises:
        InputError: ``flatten`` without a fixed window: embedding sizes would differ. Unavailable devices, precision
            or layer. The folder holds other embeddings, or another run writes to it. With ``--gradients``, a
            transcript that the model cannot write.
        OSError: The disk is full; finished shards stay.
    """
    _check(settings)
    quiet_libraries()
    module = EmbeddingModule(settings.whisper_model, settings.pooling, settings.window, settings.embedding_layer)
    _check_flatten(settings.pooling, module.backbone.window)
    run = RunDir(Path(settings.run_dir))
    folder = run.embedding_dir(settings.whisper_model)
    info = _info(settings, module)
    gradients_info = replace(info, embedding_layer="last", pooling="mean", kind="gradients", frames_dtype=None)
    trainer = _trainer(settings)  # one for both passes: only it knows the ranks that it started
    if trainer.is_global_zero:
        check_folder(folder, info)
        if settings.gradients:
            check_folder(folder / GRADIENTS_DIR, gradients_info)
    settle_languages(run, module.backbone, settings)  # writes a file: after all checks that do not need it
    if settings.gradients and trainer.is_global_zero:  # other ranks may be here before the languages are written
        check_texts(module.backbone, read_split(run, "train"))
    name_as_parent(os.environ)
    _fill(trainer, folder, info, module, settings, SPLITS)
    if settings.gradients:
        _fill(trainer, folder / GRADIENTS_DIR, gradients_info, GradientModule(module.backbone), settings, ("train",))


def _fill(
    trainer: Trainer,
    folder: Path,
    info: StoreInfo,
    module: EmbeddingModule | GradientModule,
    settings: EmbeddingSettings,
    splits: tuple[str, ...],
) -> None:
    """Complete the store in a folder, with vectors for all utterances of the given splits."""
    data = EmbeddingDataModule(
        settings.run_dir,
        str(folder),
        settings.batch_size,
        settings.max_seconds,
        settings.num_workers,
        info.window,
        splits,
    )
    writer = StoreWriter(folder, ShardSettings(info.precision, info.frames_dtype, settings.shard_size))
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
            "setting.conflict",
            f"--pooling flatten joins all frames of a fixed window, and the window is {window_words(window)}; add"
            f" --window {LONGEST:g}, or use --pooling mean",
            "--pooling flatten",
        )


def _check(settings: EmbeddingSettings) -> None:
    if settings.precision.endswith("-true") and not settings.precision.startswith("32"):
        raise InputError(
            "setting.conflict",
            f"--precision {settings.precision} would also round the audio; use bf16-mixed, 16-mixed or 32-true",
            f"--precision {settings.precision}",
        )
    for name, least in (("shard_size", 1), ("batch_size", 1), ("num_workers", 0)):
        if (value := getattr(settings, name)) < least:
            raise InputError(
                "setting.range",
                f"--{name.replace('_', '-')} must be at least {least}, got {value}",
                f"--{name.replace('_', '-')} {value}",
            )
    if settings.max_seconds is not None and not settings.max_seconds > 0:
        raise InputError(
            "setting.range",
            f"--max-seconds must be over 0, got {settings.max_seconds:g}",
            f"--max-seconds {settings.max_seconds:g}",
        )


def _info(settings: EmbeddingSettings, module: EmbeddingModule) -> StoreInfo:
    return StoreInfo(
        whisper_model=settings.whisper_model,
        pooling=settings.pooling,
        window=module.backbone.window,
        embedding_layer=module.embedding_layer,
        revision=model_revision(settings.whisper_model),
        precision=settings.precision,
        kind=settings.store,
        frames_dtype=settings.frames_dtype if settings.store == "frames" else None,
    )


def _trainer(settings: EmbeddingSettings) -> Trainer:
    try:
        trainer = Trainer(
            accelerator=settings.accelerator,
            devices=int(settings.devices) if settings.devices.isdigit() else settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            precision=settings.precision,  # type: ignore[arg-type]
            deterministic=settings.deterministic or None,
            use_distributed_sampler=False,  # the loader knows its rank
            logger=False,
            inference_mode=False,  # gradients cannot use a tensor from inference mode
            callbacks=[TQDMProgressBar(refresh_rate=10)],
        )
    except (TypeError, ValueError, MisconfigurationException) as error:  # not available on this machine or in Lightning
        names = ("accelerator", "devices", "num_nodes", "strategy", "precision")
        asked = " ".join(f"--{name.replace('_', '-')} {getattr(settings, name)}" for name in names)
        raise InputError("setting.hardware", f"{asked}: {error}", asked) from error
    check_cpu_processes(trainer)
    return trainer
