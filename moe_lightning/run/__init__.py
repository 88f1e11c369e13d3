"""A run as data: its folder, the table of stages, records, the pipeline, verification."""
