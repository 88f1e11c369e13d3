"""The speech model shared by all stages: loading, variable-length encoder, tokens, greedy decoding."""
