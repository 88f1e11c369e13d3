"""Stage 3: a gate that predicts an utterance's soft label from its embedding."""
