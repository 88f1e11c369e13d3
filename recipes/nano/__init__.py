"""The nano backbone: a Whisper of 2.4 M parameters, trained on synthesised speech, for quick runs and tests.

Its word error rate is about 2 % on plain American speech by unseen synthetic voices, and 10 to 75 % on the demo
corpus's other populations; on recordings of people it recognises nothing. It was trained over real lengths, so its
config says ``trained_window: real``: 30 s of silence after an utterance confuse it.
"""
