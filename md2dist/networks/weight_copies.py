"""Half-precision copies of all weights, made in a few kernels; autocast makes them one by one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from md2dist.networks.buckets import fill_buckets


@contextmanager
def half_copies(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within this context, convolutions use copies of their weights; gradients reach the weights.

    Output layers, named `head` or `heads`, keep theirs.

    Args:
        model: all networks; float64 weights are not copied.
        dtype: type of the copies.
    """
    owners = [
        (module, name)
        for path, module in model.named_modules()
        # Subclasses may compute with their weights first, in float32.
        if type(module) is nn.Conv2d and "head" not in path
        for name, weight in module.named_parameters(recurse=False)
        if weight.dtype == torch.float32
    ]
    weights = (getattr(module, name) for module, name in owners)
    # A bucket's gradients arrive together: ranks average them while others are still computed.
    copies = [
        copy
        for bucket in fill_buckets(weights)
        for copy in cast(tuple[torch.Tensor, ...], _Copies.apply(dtype, *bucket))
    ]
    for (module, name), copy in zip(owners, copies, strict=True):
        module.__dict__[name] = copy  # comes before the parameter of that name
    try:
        yield
    finally:
        for module, name in owners:
            del module.__dict__[name]


class _Copies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Copies weights of any shape to a type."""
        ctx.dtypes = [weight.dtype for weight in weights]
        return _convert(weights, [dtype] * len(weights))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Copies gradients of any shape to the types of the weights."""
        return None, *_convert(grad_outputs, ctx.dtypes)


def _convert(
    tensors: tuple[torch.Tensor, ...], dtypes: list[torch.dtype]
) -> tuple[torch.Tensor, ...]:
    """Returns tensors of any shape in other types."""
    results = [torch.empty_like(x, dtype=to) for x, to in zip(tensors, dtypes, strict=True)]
    torch._foreach_copy_(results, list(tensors))  # pyright: ignore
    return tuple(results)
