"""Colour jitter of a whole batch in few kernels, whatever the samples and their orders.

Per sample, hue is shifted once, with up to three linear changes before and three after it. So the
batch passes six linear changes, of which a sample leaves some out, and one shift of hue. All
parameters are one table, which reaches the device in a single copy.
"""

from collections.abc import Sequence

import numpy as np
import torch

from md2dist.data.loading.color_jitter import LUMA, ColorJitter

_NUM_BEFORE = 3  # linear changes before the hue, and after it
_NUM_CHANGES = 2 * _NUM_BEFORE
_IDENTITY = (0.0, 0.0, 0.0, 0.0, 1.0)
_SMALLEST = 1e-30  # of a chroma that is not zero


def tabulate(jitters: Sequence[ColorJitter | None]) -> np.ndarray:
    """Writes jitters as numbers for `jitter_batch`, on the host.

    Args:
        jitters: of B samples; None leaves a sample unchanged.

    Returns:
        (B, 34) float32. For each of six linear changes: weights of red, green and blue, whether the
        mean of the image counts, and the factor; then three shifts of hue, and whether to shift.
    """
    return np.array([_tabulate_sample(jitter) for jitter in jitters], np.float32)


def jitter_batch(images: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Applies the colour changes of each sample in its order, clipping to [0, 1] after each.

    Args:
        images: (B, V, 3, H, W) in [0, 1].
        table: (B, 34), from `tabulate`, on the device of the images.

    Returns:
        (B, V, 3, H, W) in [0, 1]; samples without jitter equal the given ones bit for bit.
    """
    table = table[:, None, :, None, None]
    changes, (shifts, is_shifted) = table[:, :, :-4].split(5, 2), table[:, :, -4:].split((3, 1), 2)
    for change in changes[:_NUM_BEFORE]:
        images = _change_linearly(images, change)
    images = torch.lerp(images, _shift_hue(images, shifts), is_shifted)  # exact at 0 and 1
    for change in changes[_NUM_BEFORE:]:
        images = _change_linearly(images, change)
    return images


def _tabulate_sample(jitter: ColorJitter | None) -> list[float]:
    if jitter is None:
        return [*_IDENTITY * _NUM_CHANGES, 0.0, 0.0, 0.0, 0.0]
    row: list[float] = []
    position = jitter.order.index("hue")
    for names in (jitter.order[:position], jitter.order[position + 1 :]):
        for name in names:
            weights = (0.0, 0.0, 0.0) if name == "brightness" else LUMA
            row += [*weights, float(name == "contrast"), getattr(jitter, name)]
        row += _IDENTITY * (_NUM_BEFORE - len(names))
    return [*row, *(offset + 6 * jitter.hue for offset in (5, 3, 1)), 1.0]


def _change_linearly(images: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Scales the difference of (B, V, 3, H, W) from black, luma or mean luma; (B, 1, 5, 1, 1)."""
    weights, uses_mean, factor = change.split((3, 1, 1), 2)
    grey = (images * weights).sum(2, keepdim=True)
    anchor = torch.lerp(grey, grey.mean((-2, -1), keepdim=True), uses_mean)
    return torch.lerp(anchor, images, factor).clamp_(0, 1)


def _shift_hue(images: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Rotates the hue of (B, V, 3, H, W) by (B, 1, 3, 1, 1), as `color_jitter` does."""
    value, brightest = images.max(2, keepdim=True)
    chroma = value - images.amin(2, keepdim=True)
    opposite = images.roll(-1, 2) - images.roll(1, 2)  # green - blue, blue - red, red - green
    position = opposite.gather(2, brightest) / chroma.clamp_min(_SMALLEST)
    k = (torch.add(position, brightest, alpha=2) + shifts).remainder_(6)
    return torch.addcmul(value, chroma, torch.minimum(k, 4 - k).clamp_(0, 1), value=-1).clamp_(0, 1)
