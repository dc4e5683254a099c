"""Training under DeepSpeed: the only floor that knows of ranks' processes, DeepSpeed and W&B."""
