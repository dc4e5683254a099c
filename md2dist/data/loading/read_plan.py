"""Read plan: the samples and bytes that a node reads in an epoch, computed in advance."""

from typing import NamedTuple

import numpy as np

from md2dist.data.loading.order import GlobalOrder
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.files import MOST_OPEN_SHARDS
from md2dist.distributed.topology import Topology
from md2dist.errors import ShardError


class ReadPlan(NamedTuple):
    """Samples and bytes that one node reads in one epoch, and the totals."""

    num_samples: int
    num_bytes: int  # with an empty cache
    total_samples: int
    total_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.num_samples:,} of {self.total_samples:,} samples, "
            f"{self.num_bytes / 1e9:.3f} of {self.total_bytes / 1e9:.3f} GB"
        )


def plan_reading(
    dataset: ShardDataset,
    order: GlobalOrder,
    epoch: int,
    topology: Topology,
) -> ReadPlan:
    """Counts what the ranks of a node read in an epoch: their samples, or these samples' shards.

    Args:
        dataset: the samples.
        order: which samples make up which step.
        epoch: counted from 0.
        topology: of any rank of the node.
    """
    manifest = dataset.manifest
    positions = order.epoch_ids(epoch)[: order.num_steps * order.global_batch_size]
    shape = (order.num_steps, topology.grad_accum_steps, topology.world_size, -1)
    ids = positions.reshape(shape)[:, :, topology.node_ranks].ravel()
    if dataset.reads_whole_shards:
        ends = np.cumsum(manifest.shard_sizes)
        shards = np.unique(np.searchsorted(ends, ids, side="right"))
        num_bytes = sum(manifest.shards[shard].num_bytes for shard in shards.tolist())
    else:
        sizes = np.concatenate([np.diff(shard.offsets) for shard in manifest.shards])
        num_bytes = int(sizes[ids].sum())
    total_bytes = sum(shard.num_bytes for shard in manifest.shards)
    return ReadPlan(len(ids), num_bytes, manifest.num_samples, total_bytes)


def check_cache(dataset: ShardDataset, window_shards: int) -> None:
    """Checks that the cache holds whole shards for as long as they are needed.

    All shards of a window are needed at the same time. Where samples are fetched one by one, a
    small cache is merely less useful.

    Raises:
        ShardError: if two windows (the current and the next one) do not fit into the cache, or one
            has more shards than a process can keep open.
    """
    if dataset.cache_bytes is None or not dataset.reads_whole_shards:
        return
    if min(window_shards, len(dataset.manifest.shards)) > MOST_OPEN_SHARDS:
        raise ShardError(
            f"{dataset.place} serves whole shards only, and at most {MOST_OPEN_SHARDS} can be "
            f"open at the same time, but data.window_shards={window_shards}; lower it, or pack "
            "again with more --samples-per-shard"
        )
    sizes = sorted(shard.num_bytes for shard in dataset.manifest.shards)
    needed = 2 * sum(sizes[-window_shards:])
    if needed > dataset.cache_bytes:
        raise ShardError(
            f"{dataset.place} serves whole shards only, and two windows of {window_shards} "
            f"shards take {needed / 1e9:.3f} GB, more than data.cache_gb="
            f"{dataset.cache_bytes / 1e9:g}; raise it, or lower data.window_shards"
        )
