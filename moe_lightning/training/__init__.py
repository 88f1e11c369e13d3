"""What the trained stages share: checkpoints, optimizer and schedule, batches that cannot be learned from."""
