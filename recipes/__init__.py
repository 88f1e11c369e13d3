"""Worked examples: models and corpora, made by the package, with the scores to expect."""

import moe_lightning  # noqa: F401  # errors while a recipe is imported end in one line
