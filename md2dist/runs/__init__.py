"""Output of a run on disk: its folder, log, checkpoints and W&B files."""
