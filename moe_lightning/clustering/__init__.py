"""Stage 2: embeddings to hard labels, soft labels, a plot, and a clusterer that labels new audio.

numpy and scikit-learn only; no torch. ``Clusterer.load(folder).soft_labels(embeddings_ND)`` is what
the rest of the system needs of it.
"""
