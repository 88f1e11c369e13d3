"""Readers for common corpus layouts: recognise the layout at a path and read it into entries."""

from moe_lightning.corpus.readers.recognise import LAYOUTS, list_entries, read_corpus

__all__ = ["LAYOUTS", "list_entries", "read_corpus"]
