"""Weights: import and export of published files, ImageNet weights, runs and checkpoints."""

from md2dist.weights.imagenet import load_imagenet
from md2dist.weights.loading import find_model, initialise, list_downloads, load_model
from md2dist.weights.published import export_published, import_published
from md2dist.weights.training_data import find_training_data

__all__ = [
    "export_published",
    "find_model",
    "find_training_data",
    "import_published",
    "initialise",
    "list_downloads",
    "load_imagenet",
    "load_model",
]
