"""Batch norm of encoders: statistics of each group of images, and one update of all counters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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
        group_weights: weight and bias of each group, see `sum_group_gradients`; None: its own.
    """

    num_groups = 1
    group_weights: Sequence[Sequence[torch.Tensor]] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalises (G * B, C, H, W)."""
        if not (self.training and prefers_few_kernels(x.device)):
            return super().forward(x)
        weights = self.group_weights or [(self.weight, self.bias)] * self.num_groups
        groups = [
            functional.batch_norm(
                group, self.running_mean, self.running_var, weight, bias, True,
                self.momentum or 0.0, self.eps,
            )
            for group, (weight, bias) in zip(x.chunk(self.num_groups), weights, strict=True)
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
    norms = _training_norms(network)
    counters = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    if counters:
        torch._foreach_add_(counters, norms[0].num_groups)  # pyright: ignore


@contextmanager
def sum_group_gradients(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Within this context, gradients of all groups are summed at once; autograd sums one by one.

    Args:
        network: contains `BatchNorm2d`, all with the same number of groups.
        device: device of the batch.
    """
    norms = _training_norms(network) if prefers_few_kernels(device) else []
    if not norms or norms[0].num_groups == 1:
        yield
        return
    weights = [weight for norm in norms for weight in (norm.weight, norm.bias)]
    aliases = _Aliases.apply(norms[0].num_groups, *weights)
    for i, norm in enumerate(norms):
        norm.group_weights = [aliases[k : k + 2] for k in range(2 * i, len(aliases), len(weights))]
    try:
        yield
    finally:
        for norm in norms:
            norm.group_weights = None


class _Aliases(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, num: int, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns weights of any shape a number of times, without copies."""
        ctx.num = num
        return tuple(weight.detach() for _ in range(num) for weight in weights)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Sums the gradients of each weight, of any shape."""
        size = len(grad_outputs) // ctx.num
        total = grad_outputs[:size]
        for start in range(size, len(grad_outputs), size):
            total = torch._foreach_add(total, grad_outputs[start : start + size])  # pyright: ignore
        return None, *total


def _training_norms(network: nn.Module) -> list[BatchNorm2d]:
    return [norm for norm in network.modules() if isinstance(norm, BatchNorm2d) and norm.training]
