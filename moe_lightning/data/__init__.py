"""Utterances and what belongs to them: manifest, audio, soft labels, embeddings, batches."""
