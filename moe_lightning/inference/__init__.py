"""Transcribe audio files with a finished run."""
