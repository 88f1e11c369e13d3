"""Shared by the trained stages: checkpoints, optimizer and schedule, skipped batches."""
