"""Files of a run: its folder, logs, checkpoints and W&B files."""
