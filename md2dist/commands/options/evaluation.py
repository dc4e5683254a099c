"""Options of `evaluate`, their checks, and the source of disparities that they name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from md2dist.commands.options.common import (
    CommandParser,
    add_checkpoint,
    add_dtype,
    add_local_rank,
    add_overwrite,
)
from md2dist.data.shards.compatibility import check_size
from md2dist.data.shards.dataset import ShardDataset
from md2dist.errors import ConfigError
from md2dist.storage.results import prepare_file, refuse_file_name

if TYPE_CHECKING:  # the functions import torch late: it takes seconds
    import torch

    from md2dist.evaluation.depth import SamplePredictor
    from md2dist.evaluation.scalings import Origin
    from md2dist.evaluation.training_overlap import TrainingData


def parse_arguments(description: str | None) -> argparse.Namespace:
    """Parses the command line of `evaluate`; the description is that of its help."""
    parser = CommandParser(description)
    add_source(parser)
    parser.add_argument(
        "--shards",
        required=True,
        nargs="+",
        help="folders or URLs of shards packed with --ground-truth, a table for each",
    )
    parser.add_argument(
        "--protocol",
        choices=["eigen", "eigen_benchmark", "uncropped"],
        help="evaluation protocol; eigen: projected scans, cropped, below 80 m; eigen_benchmark: "
        "annotated depth, all valid pixels; uncropped: own depth maps, below 80 m; default: the "
        "one for the shards' ground truth",
    )
    parser.add_argument(
        "--scaling",
        default="auto",
        help="depth scaling: median (per image), or a factor; auto: 5.4 for models trained with "
        "stereo, else median; 1 for saved depth",
    )
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="add a table scaled by the true baseline of each drive's cameras",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="evaluate although the scaling does not fit the model, or the model was trained on "
        "drives of the test",
    )
    add_outputs(parser)
    parser.add_argument(
        "--flip-postprocess",
        action="store_true",
        help="average each prediction with that of the mirrored image",
    )
    add_dtype(parser)
    parser.add_argument(
        "--batch-size", type=int, default=8, help="number of images per forward pass"
    )
    parser.add_argument("--cache-dir", help="cache folder for remote shards, as data.cache_dir")
    parser.add_argument(
        "--cache-gb", type=float, default=50.0, help="cache size limit in GB, as data.cache_gb"
    )
    add_local_rank(parser)
    return parser.parse_args()


def add_source(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the model or of the saved predictions."""
    sources = parser.add_mutually_exclusive_group(required=True)
    add_checkpoint(parser, sources)
    sources.add_argument(
        "--predictions",
        type=Path,
        help="saved predictions: array (N, h, w) in a file .npy, in the order of the split, or a "
        "folder with one file per image",
    )
    parser.add_argument(
        "--predictions-are",
        dest="quantity",
        choices=["disparity", "depth"],
        help="quantity of saved predictions; disparity: scaled disparity in 1/m (the default); "
        "depth: depth in m, in .npy or in 16-bit PNG / 256",
    )
    parser.add_argument(
        "--predictions-split",
        dest="predicted_split",
        metavar="SPLIT",
        help="split, by name or file, in whose order the array was saved, if not that of the "
        "shards",
    )
    parser.add_argument(
        "--splits-dir", type=Path, help="folder of named splits, used instead of a download"
    )


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the results."""
    parser.add_argument(
        "--output",
        type=Path,
        nargs="+",
        default=[],
        help="files for the tables: .json, .csv or .md",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--per-drive", action="store_true", help="add a row for each drive to the tables"
    )
    parser.add_argument("--per-image", type=Path, help="CSV file for the metrics of each image")
    parser.add_argument(
        "--save-disparities",
        type=Path,
        metavar="FILE.npy",
        help="file for the scaled disparities (N, h, w) in 1/m, in the order of the split",
    )
    parser.add_argument(
        "--worst",
        type=int,
        metavar="N",
        help="number of images with the largest abs_rel to draw into --pictures",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="folder for these pictures: image, prediction, ground truth and error map",
    )


def check_options(arguments: argparse.Namespace) -> None:
    """Checks options that belong together.

    Raises:
        ConfigError: if they do not fit each other.
    """
    if (arguments.worst is None) != (arguments.pictures is None):
        raise ConfigError("--worst N and --pictures DIR belong together; pass both or none")
    if arguments.worst is not None and arguments.worst < 1:
        raise ConfigError(f"--worst {arguments.worst}: expected >= 1")
    if arguments.save_disparities and len(arguments.shards) > 1:
        raise ConfigError(
            f"--save-disparities writes one file, but --shards names {len(arguments.shards)} "
            "folders; pass one"
        )


def prepare_outputs(arguments: argparse.Namespace) -> None:
    """Checks the paths of all results before the computation.

    Raises:
        ImageError: if a result cannot be written, its suffix names no format of it, or it would
            replace a file of another origin; arrays do not state theirs.
        ConfigError: if two results have the same path.
    """
    from md2dist.evaluation.tables import SUFFIXES, holds_tables

    def may_replace(path: Path) -> bool:
        return arguments.overwrite or holds_tables(path)

    single = [(arguments.per_image, [".csv"]), (arguments.save_disparities, [".npy"])]
    given = [
        *((path, SUFFIXES) for path in arguments.output),
        *((path, suffixes) for path, suffixes in single if path),
    ]
    for path, suffixes in given:
        prepare_file(path, may_replace, suffixes)
    if len({path.resolve() for path, _ in given}) < len(given):
        raise ConfigError("two of --output and --per-image name the same file; name different ones")
    if arguments.pictures:
        refuse_file_name(arguments.pictures)


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
        check_size(dataset.manifest, dataset.folder, model.height, model.width)
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
