"""The speech model under everything: loading, variable-length encoder, tokens, greedy decoding."""
