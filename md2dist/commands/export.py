"""Exports a trained model: as published weights, as safetensors, or as ONNX.

    md2dist export --checkpoint runs/mono_stereo --output published
    md2dist export --checkpoint runs/mono_stereo --format onnx --output model.onnx

published writes encoder.pth and depth.pth, and pose_encoder.pth and pose.pth if the model has a
pose network. safetensors writes all networks into one file. `md2dist evaluate` and `md2dist
predict` accept the folder or file as --checkpoint, and training as network.init_from. onnx writes
the depth network alone, for programs without torch, and compares it with torch
(docs/deployment.md).
"""

import argparse
from pathlib import Path

from md2dist.commands.options.common import CommandParser, add_checkpoint, add_overwrite
from md2dist.console import run_command, write_line
from md2dist.errors import WeightsError
from md2dist.storage.results import lock_folder, prepare_file, refuse_file_name


def main() -> None:
    """Exports the model; prints the path of each file, then what is not exported."""
    arguments = parse_arguments()
    export = {
        "published": _write_published,
        "safetensors": _write_safetensors,
        "onnx": _write_onnx,
    }[arguments.format]
    export(arguments)


def _write_published(arguments: argparse.Namespace) -> None:
    # Late, here and below: they import torch, for seconds.
    from md2dist.weights import export_published, load_model
    from md2dist.weights.layout import NETWORKS
    from md2dist.weights.published import describe_omissions

    refuse_file_name(arguments.output)
    for path in (arguments.output / f"{name}.pth" for name in NETWORKS):
        _refuse_existing(path, arguments)
    model = load_model(arguments.checkpoint, weights_dir=arguments.weights_dir)
    with lock_folder(arguments.output):
        for path in export_published(model, arguments.output):
            write_line(path)
    for omission in describe_omissions(model):
        write_line(omission)


def _write_safetensors(arguments: argparse.Namespace) -> None:
    from md2dist.weights import load_model
    from md2dist.weights.extras import require_libraries
    from md2dist.weights.safetensors_export import (
        LIBRARIES,
        describe_safetensors_omissions,
        export_safetensors,
    )

    require_libraries(*LIBRARIES)
    _prepare(arguments)
    model = load_model(arguments.checkpoint, weights_dir=arguments.weights_dir)
    export_safetensors(model, arguments.output)
    write_line(arguments.output)
    for omission in describe_safetensors_omissions(model):
        write_line(omission)


def _write_onnx(arguments: argparse.Namespace) -> None:
    from md2dist.weights import load_model
    from md2dist.weights.extras import require_libraries
    from md2dist.weights.onnx_export import BATCHES, LIBRARIES, export_onnx

    require_libraries(*LIBRARIES)
    _prepare(arguments)
    model = load_model(arguments.checkpoint, dtype="fp32", weights_dir=arguments.weights_dir)
    difference = export_onnx(model, arguments.output)
    write_line(arguments.output)
    batches = " and ".join(map(str, BATCHES))
    write_line(
        f"Largest difference between ONNX Runtime and torch: {difference:.2g} 1/m, on random "
        f"images in batches of {batches}"
    )


def _prepare(arguments: argparse.Namespace) -> None:
    """Checks the path of a single file before the model is loaded."""
    prepare_file(arguments.output, suffixes=[f".{arguments.format}"])
    _refuse_existing(arguments.output, arguments)


def _refuse_existing(path: Path, arguments: argparse.Namespace) -> None:
    if path.exists() and not arguments.overwrite:
        raise WeightsError(
            f"{path.parent} has {path.name} already; name another --output, or pass --overwrite"
        )


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--format",
        choices=["published", "safetensors", "onnx"],
        default="published",
        help="format of the files; safetensors and onnx need the extra of the same name",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for the files; for safetensors and onnx, a file such as model.onnx",
    )
    add_overwrite(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
