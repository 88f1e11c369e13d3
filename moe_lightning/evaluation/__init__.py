"""Stage 6: word error rates of backbone and mixture, overall and by group."""
