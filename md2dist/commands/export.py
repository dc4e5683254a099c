"""Exports a trained model in the format of the published weights.

    python launch/export.py --checkpoint runs/mono_stereo --output published

Writes encoder.pth and depth.pth, and pose_encoder.pth and pose.pth if the model has a pose
network. The folder is accepted as --checkpoint of evaluate.py and predict.py, and as
network.init_from.
"""

import argparse
from pathlib import Path

from md2dist.commands.options import add_checkpoint
from md2dist.console import run_command
from md2dist.storage.results import refuse_address


def main() -> None:
    """Exports the model; prints the path of each file, then what is not exported."""
    arguments = parse_arguments()
    # Late: they import torch, for seconds.
    from md2dist.weights import export_published, load_model
    from md2dist.weights.published import describe_omissions

    refuse_address(arguments.output)
    model = load_model(arguments.checkpoint, weights_dir=arguments.weights_dir)
    for path in export_published(model, arguments.output):
        print(path)
    for omission in describe_omissions(model):
        print(omission)


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for the files, which replace existing ones",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
