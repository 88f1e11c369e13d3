"""Mixture-of-Experts speech recognition for corpora that are not one population.

A tensor's or an array's name ends in its shape, one letter an axis:

====  ==========================================================
B     utterances in a batch
N     utterances in the corpus, or in one split of it
L     audio samples, 16 kHz mono
M     mel bins (80, or 128 for large-v3)
T     frames: 100 per second before the encoder, 50 after it
S     text tokens
D     embedding size (``D_in``, ``D_out`` where a layer has two)
V     vocabulary
G     gradients of a loss that are kept of an utterance
E     experts
K     experts kept by the routing
R     rank of a LoRA delta
====  ==========================================================

``loss_B`` holds one loss an utterance, ``probs_NE`` one distribution over the experts a row.
"""

import sys

from moe_lightning.errors import end_in_one_line_while_importing
from moe_lightning.faults.signals import end_quietly_while_importing

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # a command of ours is being looked up; it imports torch for seconds before it begins
    end_quietly_while_importing()
    end_in_one_line_while_importing()
