"""Photometric error per pixel: structural similarity and absolute difference."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from md2dist.kernel_style import prefers_few_kernels

C1 = 0.01**2
C2 = 0.03**2
SSIM_WEIGHT = 0.85


def photometric_error(
    images: torch.Tensor, target: torch.Tensor, use_ssim: bool = True
) -> torch.Tensor:
    """Compares images with the target.

    Source: Godard et al., ICCV 2019, equation 2.

    Args:
        images: (B, S, C, ..., H, W), in [0, 1].
        target: (B, C, ..., H, W) or broadcast to it, in [0, 1]; receives no gradient.
        use_ssim: 0.85 SSIM error + 0.15 absolute difference; else the latter alone.

    Returns:
        The error, averaged over the channels, (B, S, ..., H, W).
    """
    target = target.detach()[:, None]
    difference = (images - target).abs().mean(2)
    if not use_ssim:
        return difference
    similarity = StructuralSimilarity.apply(images, target).mean(2)
    return SSIM_WEIGHT * (1 - similarity) / 2 + (1 - SSIM_WEIGHT) * difference


class StructuralSimilarity(torch.autograd.Function):
    """SSIM on 3x3 windows, in [-1, 1], with an explicit derivative.

    SSIM = (a1 a2) / (b1 b2) with a1 = 2 E[x] E[y] + C1, a2 = 2 cov(x, y) + C2,
    b1 = E[x]^2 + E[y]^2 + C1 and b2 = var(x) + var(y) + C2. So SSIM
    depends on x through three window means, E[x], E[x^2] and E[x y]: the forward pass keeps the
    derivatives by these, the backward pass spreads them over the windows. Most operations are in
    place, since on a CPU allocation costs more than arithmetic. Values outside [-1, 1] are rounding
    errors, so clamping does not change the gradient.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE TIP 2004, equation 13.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compares x (..., H, W) with y, which is broadcast to it and receives no gradient."""
        mean_x, mean_y, two_y = _window_mean(x), _window_mean(y), 2 * y
        a1 = (mean_x * (2 * mean_y)).add_(C1)
        a2 = _window_mean(x * two_y).sub_(a1).add_(C1 + C2)
        b1 = torch.addcmul(mean_y.square() + C1, mean_x, mean_x)
        b2 = _window_mean(x * x).sub_(b1).add_(_window_mean(y * y) + (C1 + C2))
        if not ctx.needs_input_grad[0]:
            return a1.mul_(a2).div_(b1.mul_(b2)).clamp_(-1, 1)
        denominator = b1 * b2
        ssim = (a1 * a2).div_(denominator)
        by_mean = a2.sub_(a1).mul_(mean_y)
        by_mean.addcmul_(b1.sub_(b2).mul_(mean_x), ssim).div_(denominator)  # half the derivative
        by_square = b2.reciprocal_().mul_(ssim)  # the derivative by E[x^2], negated
        by_product = a1.div_(denominator)  # half the derivative by E[x y]
        ctx.save_for_backward(x, y, by_mean, by_square, by_product)
        return ssim.clamp_(-1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Returns the gradient of x (..., H, W) for a gradient of the SSIM, of the same shape."""
        x, y, by_mean, by_square, by_product = ctx.saved_tensors
        twice = 2 * grad_outputs[0]
        result = _spread_over_windows(twice * by_mean)
        result.addcmul_(y, _spread_over_windows(twice * by_product))
        result.addcmul_(x, _spread_over_windows(twice * by_square), value=-1)
        return result, None


def _window_mean(x: torch.Tensor) -> torch.Tensor:
    """Averages 3x3 windows of (..., H, W) with a reflected border.

    Sums of shifted views are several times faster on a CPU than avg_pool2d.
    """
    padded = functional.pad(x.flatten(0, -3), (1, 1, 1, 1), mode="reflect")
    if prefers_few_kernels(x.device):
        return functional.avg_pool2d(padded, 3, stride=1).view_as(x)
    rows = (padded[..., :-2] + padded[..., 1:-1]).add_(padded[..., 2:])
    sums = (rows[..., :-2, :] + rows[..., 1:-1, :]).add_(rows[..., 2:, :])
    return sums.div_(9).view_as(x)


def _spread_over_windows(grad: torch.Tensor) -> torch.Tensor:
    """Applies the adjoint of `_window_mean` to (..., H, W); changes `grad` in place.

    Averaging is symmetric except at the border, whose neighbours count twice: with border rows and
    columns doubled before and halved after, it is its own adjoint.
    """
    if prefers_few_kernels(grad.device):
        return _spread_by_library(grad)
    return _scale_border(_window_mean(_scale_border(grad, 2)), 0.5)


def _spread_by_library(grad: torch.Tensor) -> torch.Tensor:
    """Applies the adjoint of `_window_mean` to (..., H, W) in two kernels."""
    maps = grad.flatten(0, -3)
    num, height, width = maps.shape
    padded = maps.new_empty(()).expand(num, height + 2, width + 2)  # only its shape counts
    aten = torch.ops.aten
    spread = aten.avg_pool2d_backward(maps, padded, [3, 3], [1, 1], [0, 0], False, True, None)
    return aten.reflection_pad2d_backward(spread, maps, [1, 1, 1, 1]).view_as(grad)


def _scale_border(x: torch.Tensor, factor: float) -> torch.Tensor:
    """Multiplies the first and last row and column of (..., H, W) in place."""
    for line in (x[..., 0], x[..., -1], x[..., 0, :], x[..., -1, :]):
        line.mul_(factor)
    return x
