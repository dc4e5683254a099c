"""What a node reads in an epoch, known before the first sample is read."""

from typing import NamedTuple

import numpy as np

from md2dist.data.loading.order import GlobalOrder
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.files import MOST_OPEN_SHARDS
from md2dist.errors import ShardError


class ReadPlan(NamedTuple):
    """What one node reads in one epoch, of what there is."""

    num_samples: int
    num_bytes: int  # as from an empty cache
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
    *,
    ranks: range,
    world_size: int,
    num_accum: int,
) -> ReadPlan:
    """Counts what the ranks of a node read in an epoch: their samples, or these samples' shards.

    Args:
        dataset: where the samples are.
        order: which samples make up which step.
        epoch: counted from 0.
        ranks: of the node.
        world_size: number of all ranks.
        num_accum: micro-batches that a rank accumulates into one step.
    """
    manifest = dataset.manifest
    positions = order.epoch_ids(epoch)[: order.num_steps * order.global_batch_size]
    ids = positions.reshape(order.num_steps, num_accum, world_size, -1)[:, :, ranks].ravel()
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
    """Looks whether shards that come as a whole can be kept as long as they are needed.

    All shards of a window are needed at the same time. Where samples come one by one, a small cache
    is merely less useful.

    Raises:
        ShardError: if two windows, that in use and the next one, do not fit into the cache, or one
            has more shards than a process may hold open.
    """
    if dataset.cache_bytes is None or not dataset.reads_whole_shards:
        return
    if min(window_shards, len(dataset.manifest.shards)) > MOST_OPEN_SHARDS:
        raise ShardError(
            f"{dataset.folder} gives shards as a whole only, of which {MOST_OPEN_SHARDS} can be "
            f"open at the same time, but data.window_shards={window_shards}; lower it, or pack "
            "again with more --samples-per-shard"
        )
    sizes = sorted(shard.num_bytes for shard in dataset.manifest.shards)
    needed = 2 * sum(sizes[-window_shards:])
    if needed > dataset.cache_bytes:
        raise ShardError(
            f"{dataset.folder} gives shards as a whole only, and two windows of {window_shards} "
            f"shards take {needed / 1e9:.3f} GB, more than data.cache_gb="
            f"{dataset.cache_bytes / 1e9:g}; raise it, or lower data.window_shards"
        )
