"""Stage 0: a corpus on disk -> checked utterances in speaker-disjoint splits."""
