"""Check that a run is unchanged since its stages wrote it."""
