"""Benchmarks of packing, loading and training, through the code that users run."""
