"""Recordings of people for tests: in ``MOE_LIGHTNING_CORPUS``, else in ``shared/corpus`` beside the checkout."""

import os
from pathlib import Path

CORPUS = Path(os.environ.get("MOE_LIGHTNING_CORPUS") or Path(__file__).parents[2] / "shared" / "corpus")
"""Manifests such as ``test.jsonl`` and ``smoke_train.jsonl``, with the folder ``audio``."""
