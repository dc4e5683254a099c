"""Evaluates a model's motion along a packed odometry sequence.

    md2dist evaluate-odometry --checkpoint runs/mono --shards shards/09 --poses poses

It runs as a single process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from md2dist.commands.options.common import CommandParser, add_checkpoint, add_dtype, add_overwrite
from md2dist.console import run_command, write_line, write_lines
from md2dist.conventions import STEREO_FACTOR
from md2dist.data.kitti.poses import format_poses, is_trajectory, read_poses
from md2dist.data.shards.compatibility import check_size
from md2dist.data.shards.dataset import ShardDataset
from md2dist.errors import KittiDataError
from md2dist.storage.results import holds_figures, prepare_file, write_json, write_result

if TYPE_CHECKING:  # the functions import torch late: it takes seconds
    import numpy as np
    from numpy.typing import NDArray

    from md2dist.evaluation.odometry import OdometryResult, Scaling
    from md2dist.evaluation.sequence import FrameRange


class OdometryTitle(NamedTuple):
    """Settings and data that determine the figures, named as in the JSON file."""

    drive: str
    side: str
    first_frame: int
    last_frame: int
    scaling: Scaling
    dtype: str
    checkpoint: str  # as passed
    checkpoint_folder: str
    step: int | None  # None for published weights
    shards: str  # as passed
    shard_digest: str
    poses: str  # as passed


def main() -> None:
    """Predicts all motions, prints a table and writes the requested files."""
    arguments = parse_arguments()
    # Late: they import torch, for seconds.
    from md2dist.evaluation.sequence import find_frames
    from md2dist.prediction.image_files import is_marked

    check_outputs(
        (arguments.output, ".json", lambda path: holds_figures(path, "shard_digest")),
        (arguments.trajectory, ".txt", is_trajectory),
        (arguments.plot, ".png", is_marked),
        overwrite=arguments.overwrite,
    )

    dataset = ShardDataset(
        arguments.shards, cache_dir=arguments.cache_dir, cache_gb=arguments.cache_gb
    )
    dataset.check_files()
    frames = find_frames(dataset)
    poses = read_poses_of(frames, arguments.poses)
    title, result = evaluate(arguments, dataset, frames, poses)
    write_line(describe(title, frames))
    write_lines(f"\n{result.report.as_markdown()}")
    write_files(arguments, title, result, str(frames))


def check_outputs(
    *outputs: tuple[Path | None, str, Callable[[Path], bool]], overwrite: bool = False
) -> None:
    """Checks the paths of the result files before the computation.

    Args:
        *outputs: paths, each with its suffix and a function that returns whether an existing file
            is a result.
        overwrite: whether any file may be replaced.

    Raises:
        ImageError: as `prepare_file`.
    """
    for path, suffix, is_ours in outputs:
        if path is not None:
            prepare_file(path, (lambda path: True) if overwrite else is_ours, [suffix])


def read_poses_of(frames: FrameRange, source: Path) -> NDArray[np.float64]:
    """Reads the poses of frames, (N, 3, 4)."""
    poses = read_poses(source, frames.drive)
    if len(poses) != frames.last + 1:
        raise KittiDataError(
            f"{source} has {len(poses)} poses, but the shards hold {frames}; expected "
            f"{frames.last + 1} lines, one for each frame from 0 to {frames.last}"
        )
    return poses[frames.first :]


def evaluate(
    arguments: argparse.Namespace,
    dataset: ShardDataset,
    frames: FrameRange,
    poses: NDArray[np.float64],
) -> tuple[OdometryTitle, OdometryResult]:
    """Loads the model, predicts all motions and compares them with the poses (N, 4, 4)."""
    import torch

    from md2dist.evaluation.depth_metrics import read_scaling
    from md2dist.evaluation.odometry import evaluate_odometry
    from md2dist.evaluation.sequence import predict_motions
    from md2dist.networks.precision import name_dtype
    from md2dist.prediction.predictor import motion_predictor
    from md2dist.weights import find_model, load_model

    folder, step = find_model(arguments.checkpoint, arguments.weights_dir)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(folder, device, arguments.dtype)
    check_size(dataset.manifest, arguments.shards, model.height, model.width)
    scalings = {"auto": STEREO_FACTOR if model.use_stereo else "fit", "fit": "fit"}
    title = OdometryTitle(
        drive=frames.drive,
        side=frames.side,
        first_frame=frames.first,
        last_frame=frames.last,
        scaling=read_scaling(arguments.scaling, scalings),
        dtype=name_dtype(model.dtype),
        checkpoint=str(arguments.checkpoint),
        checkpoint_folder=folder.name,
        step=step,
        shards=dataset.place,
        shard_digest=dataset.manifest.digest,
        poses=str(arguments.poses),
    )
    motions = predict_motions(motion_predictor(model), dataset, frames, arguments.batch_size)
    return title, evaluate_odometry(motions, poses, title.scaling)


def describe(title: OdometryTitle, frames: FrameRange) -> str:
    """Returns a one-line summary for the terminal."""
    words = [str(frames), f"scaling {title.scaling}", title.dtype, title.checkpoint]
    return ", ".join(words + [f"step {title.step}"] * (title.step is not None))


def write_files(
    arguments: argparse.Namespace, title: OdometryTitle, result: OdometryResult, heading: str
) -> None:
    """Writes the requested files."""
    if arguments.output:
        write_json(arguments.output, title._asdict() | result.report.as_dict())
    if arguments.trajectory:
        text = format_poses(result.predicted)
        write_result(arguments.trajectory, lambda file: file.write(text.encode()))
    if arguments.plot:
        from md2dist.prediction.image_files import write_picture
        from md2dist.prediction.top_view import draw_top_view

        label = f"prediction, scaled by {result.report.scale:.4g}"
        picture = draw_top_view(result.predicted, result.true, heading, label)
        write_picture(arguments.plot, picture)


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--shards",
        required=True,
        help="folder or URL of shards of one sequence, packed with --frame-offsets 1 --no-stereo "
        "--order sequential",
    )
    parser.add_argument(
        "--poses",
        type=Path,
        required=True,
        help="true poses: data_odometry_poses.zip, a folder with NN.txt or poses/NN.txt, or a file",
    )
    parser.add_argument(
        "--scaling",
        default="auto",
        help="factor to metres for t_rel, r_rel, trajectory and plot: fit (to the true "
        "trajectory), or a number; auto: 5.4 for models trained with stereo, else fit",
    )
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument(
        "--trajectory", type=Path, help="text file for the predicted poses in KITTI's format"
    )
    parser.add_argument("--plot", type=Path, help="PNG file for a top view of both trajectories")
    add_overwrite(parser)
    add_dtype(parser)
    parser.add_argument(
        "--batch-size", type=int, default=8, help="number of image pairs per forward pass"
    )
    parser.add_argument("--cache-dir", help="cache folder for remote shards, as data.cache_dir")
    parser.add_argument(
        "--cache-gb", type=float, default=50.0, help="cache size limit in GB, as data.cache_gb"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
