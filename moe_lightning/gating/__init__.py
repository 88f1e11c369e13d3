"""Stage 3: a gate that gives an utterance's embedding its soft label."""
