"""Does the mixture help? The same corpus, steps and seeds for every system that one might train instead."""
