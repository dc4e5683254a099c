"""Source of the disparities that `evaluate` scores: a model, or saved predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from md2dist.data.shards.compatibility import check_recipe
from md2dist.data.shards.dataset import ShardDataset
from md2dist.errors import ConfigError

if TYPE_CHECKING:  # the functions import torch late: it takes seconds
    import argparse

    import torch

    from md2dist.evaluation.depth import SamplePredictor
    from md2dist.evaluation.scalings import Origin
    from md2dist.evaluation.training_overlap import TrainingData


class Source(NamedTuple):
    """Origin of the disparities."""

    title: dict[str, Any]  # named as in the JSON file
    words: list[str]  # the same in short, for the terminal
    origin: Origin
    training: TrainingData
    predictor_for: Callable[[ShardDataset], SamplePredictor]  # checks that the shards fit


def open_source(arguments: argparse.Namespace, device: torch.device) -> Source:
    """Opens the model of `--checkpoint`, or the predictions of `--predictions`.

    Raises:
        Md2distError: if there is none, it is damaged, or an option does not apply to it.
    """
    return open_model(arguments, device) if arguments.checkpoint else open_predictions(arguments)


def open_model(arguments: argparse.Namespace, device: torch.device) -> Source:
    """Opens a model, see `open_source`."""
    from md2dist.evaluation.depth import with_frames
    from md2dist.evaluation.flip_postprocess import with_flip_postprocess
    from md2dist.networks.precision import name_dtype
    from md2dist.prediction.predictor import frames_predictor
    from md2dist.weights import find_model, find_training_data, load_model

    if arguments.predicted_split is not None or arguments.quantity is not None:
        raise ConfigError(
            "--predictions-are and --predictions-split describe saved predictions; omit them with "
            "--checkpoint"
        )
    folder, step = find_model(arguments.checkpoint, arguments.weights_dir)
    model = load_model(folder, device, arguments.dtype)
    predict = frames_predictor(model)
    if arguments.flip_postprocess:
        predict = with_flip_postprocess(predict)

    def predictor_for(dataset: ShardDataset) -> SamplePredictor:
        check_recipe(
            dataset.manifest,
            dataset.folder,
            height=model.height,
            width=model.width,
            frame_offsets=(),
            use_stereo=False,
        )
        return with_frames(predict)

    title = {
        "dtype": name_dtype(model.dtype),
        "flip_postprocess": arguments.flip_postprocess,
        "checkpoint": str(arguments.checkpoint),  # as passed
        "checkpoint_folder": folder.name,
        "step": step,  # None for published weights
    }
    words = [title["dtype"], *["flip post-processing"] * arguments.flip_postprocess]
    words += [title["checkpoint"], *[f"step {step}"] * (step is not None)]
    origin = "stereo" if model.use_stereo else "mono"
    return Source(title, words, origin, find_training_data(folder), predictor_for)


def open_predictions(arguments: argparse.Namespace) -> Source:
    """Opens saved predictions, see `open_source`."""
    from md2dist.evaluation.saved_predictions import saved_predictor
    from md2dist.evaluation.training_overlap import TrainingData

    if arguments.flip_postprocess or arguments.dtype != "auto" or arguments.weights_dir:
        raise ConfigError(
            "--flip-postprocess, --dtype and --weights-dir apply to a model; omit them with "
            "--predictions"
        )
    quantity = arguments.quantity or "disparity"

    def predictor_for(dataset: ShardDataset) -> SamplePredictor:
        return saved_predictor(
            arguments.predictions,
            quantity,
            dataset,
            arguments.predicted_split,
            arguments.splits_dir,
        )

    title = {
        "predictions": str(arguments.predictions),  # as passed
        "predictions_are": quantity,
        "predictions_split": arguments.predicted_split,
    }
    return Source(title, [title["predictions"]], quantity, TrainingData(), predictor_for)
