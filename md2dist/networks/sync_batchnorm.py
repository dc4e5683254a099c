"""Batch norm over the micro-batches of all ranks together."""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn


def synchronise_batchnorm(model: nn.Module, device: torch.device) -> None:
    """Replaces every batch norm of a model by one with statistics over all ranks.

    Args:
        model: changed in place; its state keeps names and values; not yet in an optimizer.
        device: device on which it will run. On GPUs torch's own class is used, which supports no
            other device, and synchronises the host in every layer.
    """
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                synchronised = SyncBatchNorm2d(child.num_features, child.eps, child.momentum)
                synchronised.to(child.weight).load_state_dict(child.state_dict())
                setattr(parent, name, synchronised.train(child.training))


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with mean and variance over all ranks in training mode, for any device.

    Source: Ioffe and Szegedy, ICML 2015, algorithm 1, over the batch of all ranks.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises (B, C, H, W); B, H and W are the same on every rank."""
        if not self.training:
            return super().forward(x)
        values = x if x.dtype == torch.float64 else x.float()
        num_ranks = dist.get_world_size() if dist.is_initialized() else 1
        mean = _average(values.mean((0, 2, 3)), num_ranks)
        centred = values - mean[:, None, None]
        variance = _average(centred.square().mean((0, 2, 3)), num_ranks)
        self._update_running_statistics(
            mean.detach(), variance.detach(), x.numel() // x.shape[1] * num_ranks
        )
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _update_running_statistics(
        self, mean: torch.Tensor, variance: torch.Tensor, count: int
    ) -> None:
        """Updates the running statistics (C,) from the batch's (C,), the variance unbiased."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        unbiased = variance * (count / max(count - 1, 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked += 1


def _average(values: torch.Tensor, num_ranks: int) -> torch.Tensor:
    """Averages values (C,) over the ranks."""
    if num_ranks == 1:
        return values
    return cast(torch.Tensor, _SumOverRanks.apply(values)) / num_ranks


class _SumOverRanks(torch.autograd.Function):
    """Sums a tensor over the ranks, and its gradient too: the loss of every rank depends on it.

    torch.distributed.nn.functional.all_reduce does the same, but is deprecated since torch 2.13 in
    favour of a private module.
    """

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        """Sums a tensor of any shape."""
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> torch.Tensor:
        """Sums the gradient, of any shape."""
        total = grad_outputs[0].clone()
        dist.all_reduce(total)
        return total
