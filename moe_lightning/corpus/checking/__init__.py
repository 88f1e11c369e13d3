"""``moe-lightning corpus check``: everything that is odd in a corpus, before it costs a training."""
