"""Stage 4: one expert per cluster, all as LoRA deltas in one gated layer."""
