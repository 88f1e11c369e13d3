"""Settings of `moe-lightning embed`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from moe_lightning.settings.command_line import CommandParser
from moe_lightning.settings.comparison import StageSettings
from moe_lightning.settings.options import build_parser, option, resolved_settings

Pooling = Literal["mean", "mean+std", "flatten", "none"]
"""Methods that make one vector from an utterance's frames."""
_TRAINER = "devices, as the Lightning Trainer has them"


@dataclass(frozen=True)
class EmbeddingSettings:
    """All settings of the embedding stage."""

    run_dir: str = option("lightning_logs/full", "folder of the run", metavar="DIR")
    whisper_model: str = option("v2", "base, small, v2, v3, turbo ..., nano, a hub id or a folder", metavar="NAME")
    pooling: Pooling = option("mean", "of encoder frames to one vector", choices=get_args(Pooling))
    window: str = option(
        "auto",
        "seconds that the encoder reads at least: auto (training window of the model, 30 s for Whisper), real (real"
        " lengths), or a number; only real frames are pooled",
        metavar="W",
    )
    language: str = option(
        "auto",
        "of utterances whose manifest names none, such as en; auto: a multilingual Whisper detects it",
        metavar="CODE",
    )
    embedding_layer: str = option("last", "encoder layers, by number or last, joined", metavar="L[,L...]")
    store: Literal["pooled", "frames"] = option(
        "pooled", "frames: keep the frames as well", choices=("pooled", "frames")
    )
    frames_dtype: str = option("float16", "of stored frames", choices=("float16", "float32"))
    gradients: bool = option(  # stored beside the embeddings, which stay unchanged
        False, "store loss gradients too, for cluster --reduce gradients", is_knob=True
    )
    shard_size: int = option(4096, "utterances of a file, at most", is_knob=True)
    batch_size: int = option(256, "utterances of a batch, at most", is_knob=True)
    max_seconds: float | None = option(None, "of audio in a batch, at most; default by device", is_knob=True)
    num_workers: int = option(2, "processes that read audio", metavar="N", is_knob=True)
    accelerator: str = option("auto", "auto, cpu, gpu ...", group=_TRAINER, is_knob=True)
    devices: str = option("auto", "how many, or auto", group=_TRAINER, is_knob=True)
    num_nodes: int = option(1, "machines", metavar="N", group=_TRAINER, is_knob=True)
    strategy: str = option("auto", "auto, ddp ...", group=_TRAINER, is_knob=True)
    precision: str = option("32-true", "32-true, 16-mixed, bf16-mixed", group=_TRAINER, is_knob=True)
    deterministic: bool = option(False, "the same bits each time on GPUs too; slower", group=_TRAINER, is_knob=True)


def parser() -> CommandParser:
    """Flags of the stage."""
    words = "An embedding of each utterance of a run, by the frozen encoder of a speech model."
    return build_parser(EmbeddingSettings, "moe-lightning embed", words, takes_config=True)


def resolved(arguments: Sequence[str]) -> StageSettings:
    """Settings of a command line."""
    return resolved_settings(EmbeddingSettings, parser(), arguments)
