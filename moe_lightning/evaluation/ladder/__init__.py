"""Does the mixture help? Ablations and baselines with the same corpus, steps and test split."""
