"""Embedding store of a corpus: written by stage 1, read by later stages."""
