"""Predicts the depth of an image, of each image in a folder, or of a list of images.

    md2dist predict --checkpoint runs/mono_stereo --input street.jpg --output depths

Writes NAME_depth.png (16 bit, 1/256 m) or NAME_depth.npy (float32, m), NAME_disparity.png (colour)
and NAME_picture.png (the image beside its disparity, with a colour bar of depth).
"""

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from md2dist.commands.options import CommandParser, add_checkpoint, add_dtype, add_overwrite
from md2dist.console import print_error, run_command, write_line
from md2dist.conventions import STEREO_FACTOR
from md2dist.errors import ConfigError, ImageError
from md2dist.prediction.camera import read_camera_source
from md2dist.prediction.image_files import find_images, refuse_foreign_results
from md2dist.prediction.image_list import read_image_list

if TYPE_CHECKING:
    from md2dist.model import MonodepthModel
    from md2dist.prediction.predictor import PredictionOptions


def main() -> None:
    """Predicts depth and prints the path of each depth file."""
    arguments = parse_arguments()
    check_points(arguments)
    if str(arguments.input) == "-":
        images = read_image_list(sys.stdin.buffer if sys.stdin else io.BytesIO())  # None: closed
    else:
        images = find_images(arguments.input)
    if not arguments.overwrite:
        others = ["_disparity.npy"] * arguments.disparity + ["_points.ply"] * arguments.point_cloud
        refuse_foreign_results(images, arguments.output, arguments.format, others)
    # Late: they import torch, for seconds.
    import torch

    from md2dist.evaluation.depth_metrics import read_scaling
    from md2dist.prediction.predictor import PredictionOptions
    from md2dist.weights import load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(arguments.checkpoint, device, arguments.dtype, arguments.weights_dir)
    factor = read_scaling(arguments.scale, {"auto": STEREO_FACTOR if model.use_stereo else 1.0})
    is_metric = arguments.scale != "auto" or model.use_stereo
    if not is_metric:
        write_line("This model was trained without stereo: its depth is relative, not in metres.")
        if arguments.format == "png":
            write_line(
                "Values may be tens of times smaller than metres, and the PNG's step of 1/256 is "
                "coarse for them: use --format npy, or --scale FACTOR, for example the median "
                "ratio that `md2dist evaluate` prints."
            )
    camera = read_camera_source(arguments.intrinsics, arguments.fov)
    options = PredictionOptions(
        is_metric=is_metric,
        with_disparity=arguments.disparity,
        points_of=camera if arguments.point_cloud else None,
        max_depth=arguments.max_depth,
        crop_to_aspect=arguments.crop_to_aspect,
    )
    predict(model, images, arguments, factor, options)


def predict(
    model: "MonodepthModel",
    images: list[Path],
    arguments: argparse.Namespace,
    factor: float,
    options: "PredictionOptions",
) -> None:
    """Predicts images, with a progress bar on a terminal.

    Raises:
        ImageError: after the others are predicted, if images could not be read.
    """
    from tqdm import tqdm

    from md2dist.prediction.predictor import predict_files

    has_terminal = sys.stderr is not None and sys.stderr.isatty()
    is_silent = len(images) == 1 or not has_terminal
    unread: list[str] = []
    with tqdm(
        total=len(images),
        unit=" images",
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]",
        dynamic_ncols=True,
        leave=False,
        disable=is_silent,
    ) as bar:

        def skip(error: ImageError) -> None:
            print_error(str(error))
            unread.append(str(error))
            bar.update()

        for path in predict_files(
            model,
            images,
            arguments.output,
            factor=factor,
            depth_format=arguments.format,
            on_unreadable=skip if len(images) > 1 else None,
            options=options,
        ):
            bar.clear()  # the path may be printed on the same terminal
            write_line(path)
            bar.update()
    if unread:
        raise ImageError(
            f"{len(unread)} of {len(images)} images could not be read and have no results; the "
            "others are predicted"
        )


def check_points(arguments: argparse.Namespace) -> None:
    """Checks the options of the point cloud.

    Raises:
        ConfigError: if one is out of range, or given without `--point-cloud`.
    """
    read_camera_source(arguments.intrinsics, arguments.fov)
    if arguments.max_depth is not None and not arguments.max_depth > 0:
        raise ConfigError(f"--max-depth {arguments.max_depth:g}: expected a number > 0")
    for name in ("intrinsics", "fov", "max_depth"):
        if getattr(arguments, name) is not None and not arguments.point_cloud:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is for point clouds alone; add --point-cloud, or omit it")


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        help="image, folder of PNG and JPEG images, or - for a list of images on standard input, "
        "one path per line",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_overwrite(parser)
    parser.add_argument(
        "--format", choices=["png", "npy"], default="png", help="format of the depth files"
    )
    parser.add_argument(
        "--scale",
        default="auto",
        help="factor of the depth; auto: 5.4 for models trained with stereo, else 1; 5.4 gives "
        "metres for KITTI's cameras and baseline; other cameras need a factor of their own",
    )
    parser.add_argument(
        "--crop-to-aspect",
        action="store_true",
        help="predict only the image's centre, of the model's aspect ratio, and write results of "
        "its size: for images of other cameras, which resizing would distort",
    )
    parser.add_argument(
        "--disparity",
        action="store_true",
        help="also write scaled disparities (float32, 1/m, of the image's size, without --scale) "
        "as NAME_disparity.npy",
    )
    points = parser.add_argument_group("point cloud")
    points.add_argument(
        "--point-cloud",
        action="store_true",
        help="also write the coloured points of each image as NAME_points.ply (binary PLY)",
    )
    camera = points.add_mutually_exclusive_group()
    camera.add_argument(
        "--intrinsics",
        metavar="FX,FY,CX,CY",
        help="focal lengths and principal point in pixels of the whole image; without this and "
        "--fov, KITTI's: 0.58 widths, 1.92 heights, and the centre",
    )
    camera.add_argument(
        "--fov",
        type=float,
        metavar="DEGREES",
        help="horizontal field of view of the whole image, instead of --intrinsics",
    )
    points.add_argument(
        "--max-depth",
        type=float,
        help="leave out points beyond this depth (default: 80 m; five times the image's median "
        "depth if depth is not in metres)",
    )
    add_dtype(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
