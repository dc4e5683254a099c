"""What a run leaves on disk: its folder, log, checkpoints and W&B files."""
