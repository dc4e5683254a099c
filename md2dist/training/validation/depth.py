"""Depth metrics and pictures of a model in training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from md2dist.conventions import default_scaling
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.agreement import raise_on_all_ranks
from md2dist.distributed.world import World, gather_over_ranks
from md2dist.evaluation.depth import score_depth, with_frames
from md2dist.evaluation.depth_scores import ImageScore, list_worst
from md2dist.evaluation.flip_postprocess import Predictor, with_flip_postprocess
from md2dist.evaluation.protocols import choose_protocol
from md2dist.model import MonodepthModel
from md2dist.prediction.error_pictures import draw_validation_panel
from md2dist.prediction.pictures import Picture
from md2dist.prediction.predictor import frames_predictor


def validate(
    model: MonodepthModel,
    val_set: ShardDataset,
    world: World,
    is_stopping: Callable[[], bool] = lambda: False,
    *,
    use_flip_postprocess: bool = False,
) -> list[ImageScore]:
    """Evaluates a model on shards with ground truth; all ranks call it and share the images.

    Args:
        model: in eval mode during the call.
        val_set: shards with ground truth, frames of the model's size.
        world: this process.
        is_stopping: called before each batch; True interrupts the evaluation.
        use_flip_postprocess: average each prediction with that of the mirror image.

    Returns:
        The score of each image in order, by the protocol of the ground truth, the same on every
        rank; scaled by 5.4 for models trained with stereo, by the median of the image for others.

    Raises:
        EvaluationInterrupted: on every rank, if any of them is stopping.
        Md2distError: on every rank, if any of them cannot evaluate its images.
    """
    with _evaluating(model), raise_on_all_ranks(world):
        (scores,) = score_depth(
            with_frames(_choose_predictor(model, use_flip_postprocess)),
            val_set,
            protocol=choose_protocol(val_set.manifest.recipe, val_set.folder),
            scalings=[default_scaling(model.use_stereo)],
            topology=world.topology(),
            gather=gather_over_ranks,
            is_stopping=is_stopping,
        )
        return scores


def draw_panels(model: MonodepthModel, val_set: ShardDataset, count: int) -> Iterator[Picture]:
    """Draws the same few images, evenly spread over the validation set, at each validation.

    Args:
        model: in eval mode during the drawing.
        val_set: as for `validate`.
        count: number of images, or fewer if the set is smaller.

    Yields:
        One panel (H, W, 3) for each, see `draw_validation_panel`.

    Raises:
        Md2distError: if an image cannot be read or evaluated.
    """
    protocol = choose_protocol(val_set.manifest.recipe, val_set.folder)
    scaling = default_scaling(model.use_stereo)
    count = min(count, len(val_set))
    predict = frames_predictor(model)
    with _evaluating(model):
        for number in range(count):
            sample = val_set[(2 * number + 1) * len(val_set) // (2 * count)]
            disparity = predict(torch.tensor(sample.frames["0"])[None])[0, 0]
            yield draw_validation_panel(sample, disparity, protocol, scaling)


def tabulate_worst(
    model: MonodepthModel,
    val_set: ShardDataset,
    scores: Sequence[ImageScore],
    count: int,
    *,
    use_flip_postprocess: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yields a row for each of the images with the largest abs_rel, the largest first.

    Args:
        model: in eval mode during the drawing.
        val_set: as for `validate`.
        scores: of all its images, from `validate`.
        count: number of images, or fewer if the set is smaller.
        use_flip_postprocess: as for `validate`.

    Yields:
        `picture`, see `draw_validation_panel`, and the values of the score by name.

    Raises:
        Md2distError: if an image cannot be read.
    """
    protocol = choose_protocol(val_set.manifest.recipe, val_set.folder)
    predict = _choose_predictor(model, use_flip_postprocess)
    with _evaluating(model):
        for index in list_worst(scores, count):
            sample, score = val_set[index], scores[index]
            disparity = predict(torch.tensor(sample.frames["0"])[None])[0, 0]
            picture = draw_validation_panel(sample, disparity, protocol, score.factor)
            yield {"picture": picture, **score.as_dict()}


def _choose_predictor(model: MonodepthModel, use_flip_postprocess: bool) -> Predictor:
    predict = frames_predictor(model)
    return with_flip_postprocess(predict) if use_flip_postprocess else predict


@contextmanager
def _evaluating(model: MonodepthModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
