"""Run the encoder over a corpus and write the store."""

import argparse
from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from moe_lightning.corpus import Utterance
from moe_lightning.embedding.data import EmbeddingDataModule
from moe_lightning.embedding.module import EmbeddingModule
from moe_lightning.embedding_store import EmbeddingStore, StoreEntry, StoreInfo, shard_of
from moe_lightning.errors import InputError
from moe_lightning.hush import hush
from moe_lightning.run_dir import RunDir


def embed(options: argparse.Namespace) -> None:
    """Embed all utterances of a run; with several ranks each does its part, and the first joins them.

    Raises:
        InputError: ``flatten`` without a fixed window: utterances would differ in size. Devices or a
            precision that there are none of.
    """
    if options.pooling == "flatten" and options.pad != "30s":
        raise InputError("--pooling flatten joins all frames of a fixed window; add --pad 30s, or use --pooling mean")
    hush()
    run = RunDir(Path(options.run_dir))
    module = EmbeddingModule(options.whisper_model, options.pooling, options.pad)
    data = EmbeddingDataModule(options.run_dir, options.batch_size, options.num_workers)
    trainer = _trainer(options)
    trainer.predict(module, data, return_predictions=False)
    folder = run.embedding_dir(options.whisper_model)
    _write_part(folder, trainer.global_rank, module)
    trainer.strategy.barrier("parts")
    if trainer.is_global_zero:
        info = StoreInfo(options.whisper_model, options.pooling, options.pad)
        _join_parts(folder, trainer.world_size, data.splits, info)


def _trainer(options: argparse.Namespace) -> Trainer:
    try:
        return Trainer(
            accelerator=options.accelerator,
            devices=int(options.devices) if options.devices.isdigit() else options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            precision=options.precision,
            use_distributed_sampler=False,  # the loader knows its rank
            logger=False,
            callbacks=[TQDMProgressBar(refresh_rate=10)],
        )
    except (TypeError, ValueError, MisconfigurationException) as error:  # what this machine, or Lightning, has not
        names = ("accelerator", "devices", "num_nodes", "strategy", "precision")
        asked = " ".join(f"--{name.replace('_', '-')} {getattr(options, name)}" for name in names)
        raise InputError(f"{asked}: {error}") from error


def _write_part(folder: Path, rank: int, module: EmbeddingModule) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows_n, embeddings_nD = module.collected()
    np.savez(_part_file(folder, rank), rows=rows_n.numpy(), embeddings=embeddings_nD.numpy())


def _join_parts(folder: Path, num_ranks: int, splits: list[tuple[str, Utterance]], info: StoreInfo) -> None:
    parts = [np.load(_part_file(folder, rank)) for rank in range(num_ranks)]
    rows_N = np.concatenate([part["rows"] for part in parts])
    embeddings_ND = np.concatenate([part["embeddings"] for part in parts])[np.argsort(rows_N)]
    assert len(embeddings_ND) == len(splits), "the ranks must have embedded every utterance once"
    entries = tuple(_entry(row, split, utterance) for row, (split, utterance) in enumerate(splits))
    EmbeddingStore(entries, embeddings_ND, info).save(folder)
    for rank in range(num_ranks):
        _part_file(folder, rank).unlink()
    print(f"embedding: {len(entries)} utterances x {embeddings_ND.shape[1]} in {folder}")


def _entry(row: int, split: str, utterance: Utterance) -> StoreEntry:
    shard, shard_row = shard_of(row)
    return StoreEntry(
        id=utterance.id,
        contributor_id=utterance.speaker,
        wav_filename=utterance.audio_file.name,
        wav_path=str(utterance.audio_file),
        embedding_path=shard,
        row=shard_row,
        split=split,
    )


def _part_file(folder: Path, rank: int) -> Path:
    return folder / f"part_{rank}.npz"
