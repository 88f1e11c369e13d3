"""The page and the model card of an evaluation, from its results and the run's files."""
