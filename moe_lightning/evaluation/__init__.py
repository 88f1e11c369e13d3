"""Stage 6: word error rates of the bare backbone and of the mixture, overall and by group."""
