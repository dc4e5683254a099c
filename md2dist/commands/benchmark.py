"""Predicts the 500 test images of KITTI's depth prediction benchmark, for its server.

    md2dist benchmark --checkpoint runs/mono_stereo --input DIR --output submission.zip

Speed is measured by the command `bench`.
"""

import argparse
from pathlib import Path

from md2dist.commands.options.common import CommandParser, add_checkpoint, add_dtype, add_overwrite
from md2dist.console import run_command, write_line
from md2dist.conventions import STEREO_FACTOR
from md2dist.errors import ConfigError


def main() -> None:
    """Predicts the images and writes a folder of depth maps, or an archive of them."""
    arguments = parse_arguments()
    # Late: they import torch, for seconds.
    import torch

    from md2dist.evaluation.depth_metrics import read_scaling
    from md2dist.prediction.benchmark import find_benchmark_images, prepare_output, write_submission
    from md2dist.weights import load_model

    images = find_benchmark_images(arguments.input)
    prepare_output(images, arguments.output, overwrite=arguments.overwrite)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(arguments.checkpoint, device, arguments.dtype, arguments.weights_dir)
    if arguments.scale == "auto" and not model.use_stereo:
        raise ConfigError(
            "this model was trained without stereo: its depth has no scale, but the benchmark "
            "compares metres; pass --scale FACTOR, for example the median ratio that "
            "`md2dist evaluate` prints"
        )
    factor = read_scaling(arguments.scale, {"auto": STEREO_FACTOR})
    write_submission(model, images, arguments.output, factor)
    write_line(f"{len(images)} depth maps in {arguments.output}")


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        help="folder of the test images from data_depth_selection.zip, or a folder above it",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="archive NAME.zip to be uploaded, or a folder for the depth maps",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--scale",
        default="auto",
        help="factor for the depth; auto: 5.4, for models trained with stereo",
    )
    add_dtype(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
