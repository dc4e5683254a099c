"""Evaluation protocols: the one for each ground truth, and the command that packs its shards."""

from pathlib import Path

from md2dist.data.shards.recipe import GroundTruth, Recipe
from md2dist.errors import ShardError
from md2dist.evaluation.depth_metrics import ProtocolName
from md2dist.storage.addresses import public_address

_PROTOCOLS: dict[GroundTruth, ProtocolName] = {
    "velodyne": "eigen",
    "annotated": "eigen_benchmark",
    "depth": "uncropped",
}
_PACK_COMMAND = (
    "md2dist pack --kitti-root DIR --split {split} --output DIR "
    "--ground-truth {ground_truth} --frame-offsets --no-stereo --order sequential"
)
_PACK_OWN = (
    "md2dist pack --frames DIR --split all --output DIR --ground-truth depth --frame-offsets "
    "--no-stereo --order sequential"
)


def choose_protocol(
    recipe: Recipe,
    folder: str | Path,
    wanted: ProtocolName | None = None,
    remedy: str | None = None,
) -> ProtocolName:
    """Returns the protocol for a folder of shards.

    Args:
        recipe: recipe of the shards.
        folder: their folder, for messages.
        wanted: requested protocol; None selects the one for the ground truth.
        remedy: remedy if there is no ground truth; None: packing a test split.

    Raises:
        ShardError: if the shards have no ground truth, or not that of the protocol.
    """
    fitting = _PROTOCOLS.get(recipe.ground_truth)
    if fitting and wanted in (None, fitting):
        return fitting
    found = f"carries {recipe.ground_truth} depth, for protocol {fitting}" * bool(fitting)
    commands = {
        protocol: _PACK_COMMAND.format(split=f"{protocol}/test", ground_truth=ground_truth)
        for ground_truth, protocol in _PROTOCOLS.items()
    }
    commands["uncropped"] = _PACK_OWN
    remedies = [
        f"for protocol {protocol} pack with `{command}`"
        for protocol, command in commands.items()
        if wanted in (None, protocol)
    ]
    place = public_address(str(folder))
    raise ShardError(
        f"{place} {found or 'carries no ground truth'}; {remedy or '; '.join(remedies)}"
    )


def validation_remedy(height: int, width: int) -> str:
    """Returns the remedy that packs validation shards, other than those of a test split.

    Args:
        height: rows of the images in pixels.
        width: columns.
    """
    command = _PACK_COMMAND.format(split="eigen_zhou/val", ground_truth="velodyne")
    return f"for validation pack with `{command} --height {height} --width {width}`"
