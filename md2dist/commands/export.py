"""Exports a trained model in the format of the published weights.

    md2dist export --checkpoint runs/mono_stereo --output published

Writes encoder.pth and depth.pth, and pose_encoder.pth and pose.pth if the model has a pose
network. `md2dist evaluate` and `md2dist predict` accept the folder as --checkpoint, and training as
network.init_from.
"""

import argparse
from pathlib import Path

from md2dist.commands.options import CommandParser, add_checkpoint, add_overwrite
from md2dist.console import run_command, write_line
from md2dist.errors import WeightsError
from md2dist.storage.results import lock_folder, refuse_address


def main() -> None:
    """Exports the model; prints the path of each file, then what is not exported."""
    arguments = parse_arguments()
    # Late: they import torch, for seconds.
    from md2dist.weights import export_published, load_model
    from md2dist.weights.layout import NETWORKS
    from md2dist.weights.published import describe_omissions

    refuse_address(arguments.output)
    existing = [name for name in NETWORKS if (arguments.output / f"{name}.pth").exists()]
    if existing and not arguments.overwrite:
        raise WeightsError(
            f"{arguments.output} has {existing[0]}.pth already; name another --output, or pass "
            "--overwrite"
        )
    model = load_model(arguments.checkpoint, weights_dir=arguments.weights_dir)
    with lock_folder(arguments.output):
        for path in export_published(model, arguments.output):
            write_line(path)
    for omission in describe_omissions(model):
        write_line(omission)


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for the files",
    )
    add_overwrite(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
