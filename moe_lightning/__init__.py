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
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from moe_lightning.system.exits import end_in_one_line_while_importing
from moe_lightning.system.signals import end_quietly_while_importing

if TYPE_CHECKING:
    from moe_lightning.inference.recognizer import Recognizer
    from moe_lightning.models.backbones.window import Window
    from moe_lightning.models.routing import RoutingMode

__all__ = ["__version__", "load"]
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


if sys.argv[:1] == ["-m"]:  # Python is still looking for a command of this package, and imports torch for seconds
    end_quietly_while_importing()
    end_in_one_line_while_importing()
