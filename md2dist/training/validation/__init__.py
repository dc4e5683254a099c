"""Validation of a model in training, and early stopping."""
