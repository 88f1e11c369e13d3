"""Files that are whole or absent, locks, signals, exit codes, terminal output. Knows nothing of speech."""
