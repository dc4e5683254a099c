"""Options of `evaluate`, and the checks of those that belong together."""

import argparse
from pathlib import Path

from md2dist.commands.options import (
    CommandParser,
    add_checkpoint,
    add_dtype,
    add_local_rank,
    add_overwrite,
)
from md2dist.errors import ConfigError
from md2dist.storage.results import prepare_file, refuse_address


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
        choices=["eigen", "eigen_benchmark"],
        help="evaluation protocol; eigen: projected scans, cropped, below 80 m; eigen_benchmark: "
        "annotated depth, all valid pixels; default: the one for the shards' ground truth",
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
        ImageError: if a result cannot be written, or would replace a file of another origin; arrays
            do not state theirs.
        EvaluationError: if the suffix of a table names no format.
    """
    from md2dist.evaluation.tables import check_suffix, holds_tables

    def may_replace(path: Path) -> bool:
        return arguments.overwrite or holds_tables(path)

    for path in (*arguments.output, arguments.per_image, arguments.save_disparities):
        if path:
            prepare_file(path, may_replace)
    for path in arguments.output:
        check_suffix(path)
    if arguments.pictures:
        refuse_address(arguments.pictures)
