"""Mixture-of-Experts speech recognition for corpora with several populations.

The name of a tensor or an array ends in its shape, one letter per axis:

====  ==========================================================
B     utterances in a batch
N     utterances in the corpus, or in one of its splits
L     audio samples, 16 kHz mono
M     mel bins (80, or 128 for large-v3)
T     frames: 100 per second before the encoder, 50 after it
S     text tokens
D     embedding size (``D_in``, ``D_out`` where a layer has two)
V     vocabulary
G     loss gradients kept per utterance
E     experts
K     experts kept by the routing
R     rank of a LoRA delta
====  ==========================================================

``loss_B`` holds one loss per utterance, ``probs_NE`` one distribution over the experts per row.

In Python::

    import moe_lightning as ml

    model = ml.load("lightning_logs/full")
    print(model.transcribe("recording.wav").text)
    print(ml.load_results("lightning_logs/full").systems["mixture"].wer)
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from moe_lightning.errors import InputError
from moe_lightning.system.exits import end_in_one_line_while_importing
from moe_lightning.system.signals import end_quietly_while_importing

if TYPE_CHECKING:
    from moe_lightning.data.embedding_store import EmbeddingStore
    from moe_lightning.data.soft_labels import SoftLabels
    from moe_lightning.inference.recognizer import Recognizer
    from moe_lightning.models.backbones.window import Window
    from moe_lightning.models.routing import RoutingMode
    from moe_lightning.reports.results import Results

__all__ = ["InputError", "__version__", "load", "load_embeddings", "load_labels", "load_results"]
__version__ = "0.1.0"


def load(
    run_dir: str | Path,
    accelerator: str = "auto",
    precision: str = "32-true",
    routing: "RoutingMode | None" = None,
    window: "Window | None" = None,
) -> "Recognizer":
    """The recogniser of a finished run; arguments and errors as in `Recognizer`."""
    from moe_lightning.inference.recognizer import Recognizer  # torch: not for a command that only looks at a run

    return Recognizer(run_dir, accelerator, precision, routing, window)


def load_labels(run_dir: str | Path, file: str | Path | None = None) -> "SoftLabels":
    """Soft labels of a run's utterances.

    Args:
        file: One of several, such as ``RUN/clustered/kmeans_soft.json``; None takes the only one.

    Raises:
        InputError: The run has none, or those of several clusterings.
    """
    from moe_lightning.data.soft_labels import SoftLabels
    from moe_lightning.run.folder import RunDir
    from moe_lightning.run.inputs import only_soft_labels

    return SoftLabels.load(Path(file) if file else only_soft_labels(RunDir(Path(run_dir))))


def load_embeddings(run_dir: str | Path, folder: str | Path | None = None) -> "EmbeddingStore":
    """Embeddings of a run's utterances.

    Args:
        folder: One of several, such as ``RUN/embeddings/whisper_base_embeddings``; None takes the only one.

    Raises:
        InputError: The run has none, or those of several speech models.
    """
    from moe_lightning.data.embedding_store import EmbeddingStore
    from moe_lightning.run.folder import RunDir
    from moe_lightning.run.inputs import only_embeddings

    return EmbeddingStore.load(Path(folder) if folder else only_embeddings(RunDir(Path(run_dir))))


def load_results(run_dir: str | Path, split: str = "test") -> "Results":
    """Scores of a run's evaluation, or of a ladder.

    Raises:
        InputError: The split has not been evaluated, or its results are of another version.
    """
    from moe_lightning.reports.results import Results
    from moe_lightning.run.folder import RunDir
    from moe_lightning.run.inputs import check_run

    check_run(RunDir(Path(run_dir)))
    return Results.load(RunDir(Path(run_dir)).report(split).results_file)


if sys.argv[:1] == ["-m"]:  # Python is still looking for a command of this package, and imports torch for seconds
    end_quietly_while_importing()
    end_in_one_line_while_importing()
