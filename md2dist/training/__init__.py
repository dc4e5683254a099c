"""Training under DeepSpeed, which only this folder imports."""
