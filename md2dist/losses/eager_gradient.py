"""Losses whose gradient is computed in the forward pass, to free their memory at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def differentiate_eagerly(
    function: Callable[..., tuple[torch.Tensor, ...]], *inputs: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Evaluates a loss function and its gradient at once.

    The gradient of a scalar is known, up to a factor, in the forward pass. So all tensors between
    inputs and loss are freed before the next loss is computed. This saves memory, and time on a
    CPU, where allocation is slow.

    Args:
        function: returns a scalar loss (), then tensors without gradient.
        *inputs: its arguments, of any shape; those that require a gradient receive one.

    Returns:
        The outputs of the function.
    """
    needs_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    if not needs_gradient or torch.compiler.is_compiling():  # the compiler plans memory itself
        return function(*inputs)
    return _EagerGradient.apply(function, *inputs)


class _EagerGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., tuple[torch.Tensor, ...]], *inputs: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Returns the loss () and other outputs; inputs have any shape."""
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
            loss, *others = function(*leaves)
        ctx.save_for_backward(*torch.autograd.grad(loss, [x for x in leaves if x.requires_grad]))
        others = [x.detach() for x in others]
        ctx.mark_non_differentiable(*others)
        return loss.detach(), *others

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scales the gradients, each of its input's shape, by that of the loss ()."""
        factor = grad_outputs[0]
        gradients = (gradient * factor for gradient in ctx.saved_tensors)
        return tuple(next(gradients) if needed else None for needed in ctx.needs_input_grad)
