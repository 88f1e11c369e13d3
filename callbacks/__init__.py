"""Observers of a training, named in configs/*.yaml: they log or write, and change nothing that is learned."""
