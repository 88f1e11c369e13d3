"""Safe interruption of runs: folder locks, signals, atomic writes."""
