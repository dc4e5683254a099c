"""Options of `predict`, and the checks of those that belong together."""

import argparse
from fractions import Fraction
from pathlib import Path

from md2dist.commands.options.common import CommandParser, add_checkpoint, add_dtype, add_overwrite
from md2dist.data.image_reader import is_picture
from md2dist.errors import ConfigError
from md2dist.prediction.camera import read_camera_source
from md2dist.prediction.video_writer import CONTAINERS, OTHER_VIDEOS


def parse_arguments(description: str | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=description)
    add_checkpoint(parser)
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        help="image, folder of PNG and JPEG images, video, or - for a list of images on standard "
        "input, one path per line",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for the results; or a video (.mp4, .m4v, .mov, .mkv) of the input beside its "
        "disparity, without sound",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--fps",
        type=Fraction,
        help="frames per second of a video that is made of images (default: 10, KITTI's rate)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=8,
        help="most images per forward pass; large images take fewer",
    )
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
        "--no-pictures",
        action="store_true",
        help="write no pictures, which take most of the time beside the network",
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


def check_options(arguments: argparse.Namespace) -> None:
    """Checks options that belong together.

    Raises:
        ConfigError: if one is out of range, or does not apply to the output.
    """
    if arguments.batch_size < 1:
        raise ConfigError(f"--batch-size {arguments.batch_size}: expected >= 1")
    read_camera_source(arguments.intrinsics, arguments.fov)
    if arguments.max_depth is not None and not arguments.max_depth > 0:
        raise ConfigError(f"--max-depth {arguments.max_depth:g}: expected a number > 0")
    for name in ("intrinsics", "fov", "max_depth"):
        if getattr(arguments, name) is not None and not arguments.point_cloud:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is for point clouds alone; add --point-cloud, or omit it")
    if arguments.fps is not None and not 0 < arguments.fps <= 1000:
        raise ConfigError(f"--fps {float(arguments.fps):g}: expected > 0 and <= 1000")
    suffix = arguments.output.suffix.lower()
    if suffix in OTHER_VIDEOS:
        raise ConfigError(
            f"--output {arguments.output}: expected a folder, or a video with the suffix "
            f"{', '.join(CONTAINERS)}"
        )
    for_folders = {
        "--point-cloud": arguments.point_cloud,
        "--disparity": arguments.disparity,
        "--no-pictures": arguments.no_pictures,
        "--format npy": arguments.format == "npy",
    }
    given = [option for option, is_given in for_folders.items() if is_given]
    if given and makes_video(arguments):
        raise ConfigError(f"{given[0]} needs a folder as --output, not a video; omit one of them")
    is_of_images = makes_video(arguments) and not is_video(arguments.input)
    if arguments.fps is not None and not is_of_images:
        raise ConfigError(
            "--fps is for a video that is made of images; a video keeps its own rate, and files "
            "have none"
        )


def makes_video(arguments: argparse.Namespace) -> bool:
    """Returns whether the output is a video."""
    return arguments.output.suffix.lower() in CONTAINERS and not arguments.output.is_dir()


def is_video(path: Path) -> bool:
    """Returns whether an input is read as a video: a file that is not named or made as an image."""
    return path.is_file() and not is_picture(path)
