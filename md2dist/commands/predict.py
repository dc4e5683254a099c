"""Predicts the depth of an image, or of each image in a folder.

    md2dist predict --checkpoint runs/mono_stereo --input street.jpg --output depths

Writes NAME_depth.png (16 bit, 1/256 m) or NAME_depth.npy (float32, m), NAME_disparity.png (colour)
and NAME_picture.png (the image beside its disparity).
"""

import argparse
from pathlib import Path

from md2dist.commands.options import CommandParser, add_checkpoint, add_dtype, add_overwrite
from md2dist.console import print_error, run_command, write_line
from md2dist.conventions import STEREO_FACTOR
from md2dist.errors import ImageError
from md2dist.prediction.image_files import find_images, refuse_foreign_results


def main() -> None:
    """Predicts depth and prints the path of each depth file."""
    arguments = parse_arguments()
    # Late: they import torch, for seconds.
    import torch

    from md2dist.evaluation.depth_metrics import read_scaling
    from md2dist.prediction.predictor import predict_files
    from md2dist.weights import load_model

    images = find_images(arguments.input)
    if not arguments.overwrite:
        refuse_foreign_results(images, arguments.output, arguments.format)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(arguments.checkpoint, device, arguments.dtype, arguments.weights_dir)
    factor = read_scaling(arguments.scale, {"auto": STEREO_FACTOR if model.use_stereo else 1.0})
    if arguments.scale == "auto" and not model.use_stereo:
        write_line("This model was trained without stereo: its depth is relative, not in metres.")
        if arguments.format == "png":
            write_line(
                "Values may be tens of times smaller than metres, and the PNG's step of 1/256 is "
                "coarse for them: use --format npy, or --scale FACTOR, for example the median "
                "ratio that `md2dist evaluate` prints."
            )
    unread: list[str] = []

    def skip(error: ImageError) -> None:
        print_error(str(error))
        unread.append(str(error))

    for path in predict_files(
        model,
        images,
        arguments.output,
        factor=factor,
        depth_format=arguments.format,
        on_unreadable=skip if len(images) > 1 else None,
    ):
        write_line(path)
    if unread:
        raise ImageError(
            f"{len(unread)} of {len(images)} images could not be read and have no results; the "
            "others are predicted"
        )


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--input", type=Path, required=True, help="image, or folder of PNG and JPEG images"
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
    add_dtype(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
