"""Corpora as people have them: what lies at a path is recognised and read into entries."""

from moe_lightning.corpus.readers.recognise import LAYOUTS, list_entries, read_corpus

__all__ = ["LAYOUTS", "list_entries", "read_corpus"]
