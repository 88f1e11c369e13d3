"""Speech models from transformers behind one interface: loading, encoder, loss, decoding."""
