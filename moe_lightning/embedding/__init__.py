"""Stage 1: one embedding per utterance, from the speech model's frozen encoder."""
