"""Batch norm of encoders: statistics of each group of images, and one update of all counters."""

import torch
from torch import nn
from torch.nn import functional

from md2dist.kernel_style import prefers_few_kernels


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm with statistics of its own for each group of a batch.

    A batch that joins groups, such as the image pairs with each neighbour, is normalised as if each
    group came by itself, in order. It is for training with few kernels, where the encoder counts
    the batches; otherwise it is torch's own.

    Attributes:
        num_groups: number of equal parts of a training batch.
    """

    num_groups = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises (G * B, C, H, W)."""
        if not (self.training and prefers_few_kernels(x.device)):
            return super().forward(x)
        groups = [
            functional.batch_norm(
                group, self.running_mean, self.running_var, self.weight, self.bias, True,
                self.momentum or 0.0, self.eps,
            )
            for group in x.chunk(self.num_groups)
        ]  # fmt: skip
        return torch.cat(groups) if len(groups) > 1 else groups[0]


@torch.no_grad()
def count_batches(network: nn.Module, device: torch.device) -> None:
    """Counts a training batch in all norms of a network at once, where they do not do it.

    Args:
        network: contains `BatchNorm2d`.
        device: device of the batch.
    """
    if not prefers_few_kernels(device):
        return
    norms = [norm for norm in network.modules() if isinstance(norm, BatchNorm2d) and norm.training]
    counters = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    if counters:
        torch._foreach_add_(counters, norms[0].num_groups)  # pyright: ignore
