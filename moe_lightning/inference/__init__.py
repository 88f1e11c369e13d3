"""A finished run at work: audio files in, text out."""
