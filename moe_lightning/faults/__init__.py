"""What lets a run be stopped anywhere: locks of folders, signals, files that are there whole or not at all."""
