"""The page and the model card of an evaluation, from its results and from what the run left."""
