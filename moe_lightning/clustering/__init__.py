"""Stage 2: from embeddings to hard labels, soft labels, a plot, and a clusterer for new audio.

No torch. Other packages need only ``Clusterer.load(folder).soft_labels(embeddings_ND)``.
"""
