"""Batch plan: global batch = micro-batch x accumulation steps x ranks."""

from typing import NamedTuple

from md2dist.config import OptimConfig
from md2dist.errors import ConfigError


class BatchPlan(NamedTuple):
    """global_batch_size = micro_batch_size x grad_accum_steps x ranks."""

    global_batch_size: int
    micro_batch_size: int
    grad_accum_steps: int


def plan_batches(optim: OptimConfig, world_size: int) -> BatchPlan:
    """Derives the accumulation steps from the global batch, or the global batch from them.

    Args:
        optim: its three batch settings; a fixed global batch is kept on any number of ranks.
        world_size: number of ranks.

    Returns:
        Sizes that are consistent with each other and with the number of ranks.

    Raises:
        ConfigError: if no whole number of accumulation steps gives the global batch.
    """
    micro, accum, total = (
        optim.micro_batch_size,
        optim.grad_accum_steps,
        optim.global_batch_size,
    )
    if total is None:
        accum = accum or 1
        return BatchPlan(micro * accum * world_size, micro, accum)
    derived, remainder = divmod(total, micro * world_size)
    if remainder or derived < 1:
        raise ConfigError(
            f"the global batch of {total} (optim.global_batch_size, or that of the checkpoint) is "
            f"not a multiple of optim.micro_batch_size={micro} x {world_size} rank(s); "
            f"{_remedy(total, micro, world_size)}"
        )
    if accum not in (None, derived):
        raise ConfigError(
            f"optim.grad_accum_steps={accum} contradicts optim.global_batch_size={total} = "
            f"{micro} (micro) x {derived} x {world_size} rank(s); leave it null, or set {derived}"
        )
    return BatchPlan(total, micro, derived)


def _remedy(total: int, micro: int, world_size: int) -> str:
    if total % world_size == 0:
        share = total // world_size
        fitting = max(size for size in range(1, min(share, micro) + 1) if share % size == 0)
        return f"set optim.micro_batch_size={fitting}"
    counts = [ranks for ranks in range(1, total + 1) if total % ranks == 0]
    return (
        f"{world_size} ranks cannot share it evenly: for a new run, take a multiple of "
        f"{world_size}; else use a number of ranks among {counts}"
    )
