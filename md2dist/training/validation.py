"""Depth metrics of a model in training."""

from md2dist.data.shard_reader import ShardDataset
from md2dist.evaluation.depth import DepthReport, evaluate_depth
from md2dist.evaluation.depth_metrics import STEREO_FACTOR
from md2dist.model import MonodepthModel
from md2dist.prediction.predictor import frames_predictor
from md2dist.training.world import World, sum_over_ranks


def validate(model: MonodepthModel, val_set: ShardDataset, world: World) -> DepthReport:
    """Evaluates a model on shards with ground truth; all ranks call it and share the images.

    Args:
        model: put into eval mode for the time of the call.
        val_set: shards with ground truth, frames of the model's size.
        world: this process.

    Returns:
        Means over all images by the `eigen` protocol, the same on every rank; scaled by 5.4 for
        models that know stereo, by the median of each image for others.
    """
    was_training = model.training
    model.eval()
    try:
        return evaluate_depth(
            frames_predictor(model),
            val_set,
            protocol="eigen",
            scaling=STEREO_FACTOR if model.use_stereo else "median",
            rank=world.rank,
            world_size=world.world_size,
            sum_over_ranks=sum_over_ranks,
        )
    finally:
        model.train(was_training)
