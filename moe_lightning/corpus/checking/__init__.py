"""``moe-lightning corpus check``: finds anomalies in a corpus before they cost a training."""
