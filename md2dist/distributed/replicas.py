"""Checks that all ranks hold bit-identical weights and buffers."""

import torch
import torch.distributed as dist
from torch import nn

_ODD = 0x9E3779B97F4A7C15 - (1 << 64)  # a product with it spreads over 64 bits


class ReplicaError(RuntimeError):
    """The ranks hold different weights, because of a fault of the program or of a device."""


def check_replicas(model: nn.Module) -> None:
    """Compares a digest of every weight and buffer over the ranks; all of them call it.

    Args:
        model: expected to be the same on all ranks.

    Raises:
        ReplicaError: on all ranks, naming a rank that differs and its first different tensor.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    state = model.state_dict()
    own = torch.stack([digest(tensor) for tensor in state.values()])
    digests = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(digests, own)
    for rank, other in enumerate(digests):
        differs = (other != digests[0]).nonzero().flatten().tolist()
        if differs:
            raise ReplicaError(
                f"rank {rank} and rank 0 hold different values of {list(state)[differs[0]]} (and "
                f"{len(differs) - 1} other tensors); nothing was saved. Resume from the last "
                "checkpoint; if it happens again, check for a faulty device"
            )


def digest(tensor: torch.Tensor) -> torch.Tensor:
    """Hashes the bits and positions of a float32 or int64 tensor (any shape) to an int64 ()."""
    bits = tensor.detach().contiguous().view(-1).view(torch.int32).long()
    positions = torch.arange(1, len(bits) + 1, device=bits.device)
    mixed = (bits + positions * _ODD) * _ODD
    return ((mixed ^ (mixed >> 31)) * _ODD).sum()
