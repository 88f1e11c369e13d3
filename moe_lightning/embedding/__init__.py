"""Stage 1: one embedding an utterance, by the frozen encoder of the speech model."""
