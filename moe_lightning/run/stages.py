"""The table of stages. A new stage edits this file, and adds a folder of its own.

Functions are named by text and imported when they are asked for: a finished run answers without torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Stage = Literal["corpus", "embedding", "clustering", "gating", "experts", "moe", "evaluation"]


@dataclass(frozen=True)
class StageInfo:
    """A stage: its command, its folder in the run, its inputs and outputs. Functions are ``module:function``."""

    name: Stage
    command: str
    """The word after ``moe-lightning``."""
    help: str
    """Its line in ``moe-lightning --help``."""
    folder: str
    """Folder in the run."""
    after: tuple[Stage, ...]
    """Stages whose output it reads directly; they must be finished."""
    reads: tuple[Stage, ...]
    """Stages whose files it reads, directly or through other stages."""
    outputs: tuple[str, ...]
    """Files that later stages read."""
    arguments: str
    """Command line of the stage from the options of the pipeline."""
    verify: str
    """Checks of the contents of its files, for `moe-lightning verify`."""
    foreign: tuple[str, ...] = ()
    """Files in its folder that other commands write."""
    settings: str | None = None
    """Resolves a command line to settings; None if that takes torch."""
    known_digests: str | None = None
    """Digests of a folder's files, computed while they were written."""

    @property
    def is_trained(self) -> bool:
        """True for a stage with a LightningModule; its command is LightningCLI's ``fit``."""
        return self.settings is None

    def function(self, place: Literal["arguments", "verify", "settings", "known_digests"]) -> Callable[..., Any]:
        """Import one of the stage's functions."""
        module, _, name = str(getattr(self, place)).partition(":")
        found: Callable[..., Any] = getattr(import_module(f"moe_lightning.{module}"), name)
        return found


_TABLE = (
    StageInfo(
        name="corpus",
        command="corpus",
        help="read and check a corpus, split it by speaker",
        folder="corpus",
        after=(),
        reads=(),
        outputs=("*.jsonl.gz", "recordings.json"),
        foreign=("audio/*",),  # unpacked recordings are checked as recordings
        arguments="run.commands:corpus_arguments",
        settings="settings.corpus:resolved",
        verify="corpus.verify:check_corpus",
    ),
    StageInfo(
        name="embedding",
        command="embed",
        help="an embedding of each utterance",
        folder="embeddings",
        after=("corpus",),
        reads=("corpus",),
        outputs=("*/mapping.json", "*/store.json", "*/*.npy"),
        arguments="run.commands:embedding_arguments",
        settings="settings.embedding:resolved",
        verify="embedding.verify:check_embedding",
        known_digests="data.shards:written_digests",
    ),
    StageInfo(
        name="clustering",
        command="cluster",
        help="groups of utterances, soft labels",
        folder="clustered",
        after=("embedding",),
        reads=("corpus", "embedding"),
        outputs=("*_soft.json", "clusterer.*"),
        foreign=("predicted/*",),
        arguments="run.commands:clustering_arguments",
        settings="settings.clustering:resolved",
        verify="clustering.verify:check_clustering",
    ),
    StageInfo(
        name="gating",
        command="gating",
        help="train the gate (LightningCLI: fit, validate)",
        folder="gating_model",
        after=("clustering",),
        reads=("corpus", "embedding", "clustering"),
        outputs=("best.pt",),
        arguments="run.commands:gating_arguments",
        verify="training.verify:check_gate",
    ),
    StageInfo(
        name="experts",
        command="experts",
        help="pre-train the experts (LightningCLI); add, drop, merge or join experts",
        folder="experts",
        after=("clustering",),
        reads=("corpus", "embedding", "clustering"),
        outputs=("experts.safetensors",),
        foreign=("alone_*",),
        arguments="run.commands:experts_arguments",
        verify="training.verify:check_experts",
    ),
    StageInfo(
        name="moe",
        command="moe",
        help="train gate and experts together (LightningCLI)",
        folder="asr",
        after=("gating", "experts"),
        reads=("corpus", "embedding", "clustering", "gating", "experts"),
        outputs=("mixture.json", "mixture.safetensors"),
        foreign=("best.json",),  # later gets test scores
        arguments="run.commands:moe_arguments",
        verify="training.verify:check_mixture",
    ),
    StageInfo(
        name="evaluation",
        command="evaluate",
        help="word error rates, overall and by group",
        folder="report",
        after=("moe",),
        reads=("corpus", "embedding", "clustering", "moe"),
        outputs=(),
        foreign=("dev/*",),
        arguments="run.commands:evaluation_arguments",
        settings="settings.evaluation:resolved",
        verify="evaluation.verify:check_evaluation",
    ),
)
STAGES: tuple[Stage, ...] = tuple(one.name for one in _TABLE)
"""All stages, in the order of the pipeline."""
_BY_NAME = {one.name: one for one in _TABLE}


def info(stage: Stage) -> StageInfo:
    """The table's row of a stage."""
    return _BY_NAME[stage]
