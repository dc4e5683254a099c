"""Writes a trained model as the published files.

    python launch/export.py --checkpoint runs/mono_stereo --output published

Writes encoder.pth and depth.pth, and pose_encoder.pth and pose.pth where the model has a pose
network. evaluate.py and predict.py take the folder as --checkpoint, network.init_from takes it too.
"""

import argparse
from pathlib import Path

from md2dist.commands.options import add_checkpoint
from md2dist.console import run_command
from md2dist.storage.results import refuse_address
from md2dist.weights import export_published, load_model
from md2dist.weights.published import describe_omissions


def main() -> None:
    """Parses the arguments, exports, prints the name of each file and what they do not hold."""
    arguments = parse_arguments()
    refuse_address(arguments.output)
    model = load_model(arguments.checkpoint)
    for path in export_published(model, arguments.output):
        print(path)
    for omission in describe_omissions(model):
        print(omission)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for the files; same names are replaced"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
