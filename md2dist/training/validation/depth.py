"""Depth metrics of a model in training, computed by all ranks together."""

from collections.abc import Callable

from md2dist.conventions import default_scaling
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.agreement import raise_on_all_ranks
from md2dist.distributed.world import World, gather_over_ranks
from md2dist.evaluation.depth import evaluate_depth
from md2dist.evaluation.depth_scores import DepthReport
from md2dist.evaluation.flip_postprocess import with_flip_postprocess
from md2dist.evaluation.protocols import choose_protocol
from md2dist.model import MonodepthModel
from md2dist.prediction.predictor import frames_predictor


def validate(
    model: MonodepthModel,
    val_set: ShardDataset,
    world: World,
    is_stopping: Callable[[], bool] = lambda: False,
    *,
    use_flip_postprocess: bool = False,
) -> DepthReport:
    """Evaluates a model on shards with ground truth; all ranks call it and share the images.

    Args:
        model: in eval mode during the call.
        val_set: shards with ground truth, frames of the model's size.
        world: this process.
        is_stopping: called before each batch; True interrupts the evaluation.
        use_flip_postprocess: average each prediction with that of the mirror image.

    Returns:
        Means over all images by the protocol of the ground truth, the same on every rank; scaled
        by 5.4 for models trained with stereo, by the median of each image for others.

    Raises:
        EvaluationInterrupted: on every rank, if any of them is stopping.
        Md2distError: on every rank, if any of them cannot evaluate its images.
    """
    was_training = model.training
    model.eval()
    predict = frames_predictor(model)
    try:
        with raise_on_all_ranks(world):
            return evaluate_depth(
                with_flip_postprocess(predict) if use_flip_postprocess else predict,
                val_set,
                protocol=choose_protocol(val_set.manifest.recipe, val_set.folder),
                scaling=default_scaling(model.use_stereo),
                topology=world.topology(),
                gather=gather_over_ranks,
                is_stopping=is_stopping,
            )
    finally:
        model.train(was_training)
