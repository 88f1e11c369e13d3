"""The nano backbone: a Whisper of 2.4 M parameters, trained on synthesised speech, for quick runs and tests."""
