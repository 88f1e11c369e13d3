"""Stage 4: one expert a cluster, all of them LoRA deltas in one gated layer."""
