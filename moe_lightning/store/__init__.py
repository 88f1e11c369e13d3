"""Embeddings of a corpus on disk: what stage 1 writes and the stages after it read."""
