"""Half-precision copies of all weights, made in a few kernels; autocast makes them one by one."""

from collections.abc import Container, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from md2dist.networks.buckets import fill_buckets

_Owners = dict[nn.Parameter, tuple[nn.Module, str]]


@contextmanager
def half_copies(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within this context, convolutions use copies of their weights; gradients reach the weights.

    Output layers, named `head` or `heads`, keep theirs.

    Args:
        model: all networks; float64 weights are not copied.
        dtype: type of the copies.
    """
    owners: _Owners = {
        weight: (module, name)
        for path, module in model.named_modules()
        # Subclasses may compute with their weights first, in float32.
        if type(module) is nn.Conv2d and "head" not in path
        for name, weight in module.named_parameters(recurse=False)
        if weight.dtype == torch.float32
    }
    hooks = []
    for weights in _group(model, owners):
        copy = partial(_copy, weights, owners, dtype)
        modules = {owners[weight][0] for weight in weights}
        hooks += [module.register_forward_pre_hook(copy) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, name in owners.values():
            module.__dict__.pop(name, None)


def _group(model: nn.Module, owners: Container[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Returns the weights that have owners, as their gradients are averaged; first frozen ones."""
    parameters = list(model.parameters())
    frozen = [weight for weight in parameters if not weight.requires_grad]
    groups = [frozen, *fill_buckets(parameters)]
    return [[weight for weight in group if weight in owners] for group in groups]


def _copy(weights: list[nn.Parameter], owners: _Owners, dtype: torch.dtype, *_: Any) -> None:
    """Copies weights when the first of their modules is about to run.

    Autograd runs what was called last first: called at the start of a step, it would convert all
    gradients at the end of the backward pass, before which no rank could send one.
    """
    if not weights:  # has been called
        return
    copies = cast(tuple[torch.Tensor, ...], _Copies.apply(dtype, *weights))
    for weight, copy in zip(weights, copies, strict=True):
        module, name = owners[weight]
        module.__dict__[name] = copy  # comes before the parameter of that name
    weights.clear()


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
