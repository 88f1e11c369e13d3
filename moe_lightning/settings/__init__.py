"""Settings of all commands: declaration, YAML, flags, and comparison with a finished stage."""
