"""Evaluation: depth metrics and odometry errors."""

from md2dist.evaluation.depth import evaluate_depth
from md2dist.evaluation.depth_metrics import evaluate_image
from md2dist.evaluation.snippets import snippet_ate

__all__ = ["evaluate_depth", "evaluate_image", "snippet_ate"]
