"""The nano backbone: a Whisper of 2.4 M parameters, trained on synthesised speech, for quick runs and tests.

It hears plain American speech of unseen synthetic voices with about 2 % word errors, the demo corpus's
other populations with 10 to 75 %, and nothing in recordings of people. It was trained over real lengths,
so its config says ``trained_window: real``: 30 s of silence behind an utterance confuse it.
"""
