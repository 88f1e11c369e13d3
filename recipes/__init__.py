"""Worked examples: models and corpora, made by the package, with the scores to expect."""
