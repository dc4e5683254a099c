"""Validation sets: folders of shards with ground truth, each with a name for logs and metrics."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from md2dist.config import DataConfig
from md2dist.data.shards.compatibility import check_recipe
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.distributed.topology import Topology
from md2dist.errors import ShardError
from md2dist.evaluation.depth_scores import DepthReport
from md2dist.evaluation.protocols import choose_protocol, validation_remedy
from md2dist.storage.addresses import public_address
from md2dist.storage.open_store import is_url


class ValidationSet(NamedTuple):
    """A folder of shards with ground truth."""

    name: str
    dataset: ShardDataset


def open_validation_sets(
    data: DataConfig, topology: Topology = Topology()
) -> tuple[ValidationSet, ...]:
    """Opens the folders of `data.val_shards`, of which the first decides which checkpoint is best.

    Args:
        data: the shards, and the size of the model's images.
        topology: this rank among the others; the ranks of a node share the check of the shards.

    Raises:
        ShardError: if shards are missing, have no ground truth or another size.
    """
    names = name_sets(data.val_shards)
    return tuple(
        ValidationSet(name, _open(folder, data, topology))
        for name, folder in zip(names, data.val_shards, strict=True)
    )


def name_sets(folders: Sequence[str]) -> list[str]:
    """Names folders after their last part; a name that is taken gets a number."""
    names: list[str] = []
    for number, folder in enumerate(folders, start=1):
        words = re.findall(r"[\w.-]*\w[\w.-]*", public_address(folder).partition("?")[0])
        name = words[-1] if words else "set"
        names.append(f"{name}-{number}" if name in names else name)
    return names


def name_metrics(reports: dict[str, DepthReport], first: str) -> dict[str, float]:
    """Returns all metrics by name.

    Args:
        reports: by the names of the sets, those that could not be validated aside.
        first: name of the set that decides which checkpoint is best.

    Returns:
        The metrics of the first set under their own names; if there are several sets, those of each
        as ``SET/METRIC`` as well.
    """
    metrics = dict(reports[first].as_dict()) if first in reports else {}
    if set(reports) != {first}:
        for name, report in reports.items():
            metrics |= {f"{name}/{metric}": value for metric, value in report.as_dict().items()}
    return metrics


def _open(folder: str, data: DataConfig, topology: Topology) -> ShardDataset:
    remedy = validation_remedy(data.height, data.width)
    manifest = Path(folder, MANIFEST_NAME)
    if not is_url(folder) and not os.access(manifest, os.R_OK):
        raise ShardError(f"data.val_shards: {manifest} cannot be read; {remedy}")
    dataset = ShardDataset(folder, cache_dir=data.cache_dir, cache_gb=data.cache_gb)
    check_recipe(
        dataset.manifest,
        folder,
        height=data.height,
        width=data.width,
        frame_offsets=(),
        use_stereo=False,
    )
    choose_protocol(dataset.manifest.recipe, folder, remedy=remedy)
    dataset.check_files(topology.local_rank, topology.node_size)
    return dataset
