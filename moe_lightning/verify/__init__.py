"""Whether a run is still what its stages have made."""
