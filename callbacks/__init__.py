"""Callbacks that observe a training, named in configs/*.yaml: they log or write, and never change the training."""
