"""Colour jitter of a whole batch in few kernels, whatever the samples and their orders.

All samples pass the same stages; a sample skips those that its own order lacks. All changes scale
with the image. So brightness has no stage of its own: it lowers the limits at which later changes
clip, and all factors are applied at the end. Where hue is not concerned, the channels are weighted
such that their sum is the luma. All parameters are one table, which reaches the device in a single
copy.
"""

from collections.abc import Sequence

import numpy as np
import torch

from md2dist.data.loading.color_jitter import LUMA, ColorJitter

_AROUND_HUE = ("saturation", "contrast", "saturation")  # contains both orders of the two
_STAGES = ("start", *_AROUND_HUE, "hue", *_AROUND_HUE)
_AVERAGED = {"saturation": (2,), "contrast": (2, 3, 4)}  # dimensions of a stage's mean
_BELOW_ONE = 1 - 2e-7  # limit, so that rounded factors do not raise it above 1
_SMALLEST = 1e-30  # of a chroma that is not zero


def tabulate(jitters: Sequence[ColorJitter | None]) -> np.ndarray:
    """Writes jitters as numbers for `jitter_batch`, on the host.

    Args:
        jitters: of B samples; None leaves a sample unchanged.

    Returns:
        (B, 69): 23 values for each of red, green and blue, see `_tabulate_sample`.
    """
    return np.stack([_tabulate_sample(jitter).ravel() for jitter in jitters])


def jitter_batch(images: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Applies the colour changes of each sample in its order, clipping to [0, 1] after each.

    Args:
        images: (B, V, 3, H, W) in [0, 1].
        table: (B, 69) float32, from `tabulate`, on the device of the images.

    Returns:
        (B, V, 3, H, W) in [0, 1]; samples without jitter equal the given ones bit for bit.
    """
    rows = table.unflatten(1, (-1, 3))[:, None, :, :, None, None].unbind(2)  # (B, 1, 3, 1, 1) each
    pulls, limits = rows[: len(_STAGES)], rows[len(_STAGES) : 2 * len(_STAGES)]
    weight, unweight, finish, shifts, is_jittered, zeros, ones = rows[2 * len(_STAGES) :]
    changed = images * weight
    for name, pull, limit in zip(_STAGES, pulls, limits, strict=True):
        if name in _AVERAGED:
            changed = changed.addcmul(changed.mean(_AVERAGED[name], keepdim=True), pull)
        elif name == "hue":
            changed = _shift_hue(changed * unweight, shifts, ones) * weight
        changed.clamp_(zeros, limit)
    return torch.lerp(images, changed * finish, is_jittered)  # exact at 0 and 1


def _tabulate_sample(jitter: ColorJitter | None) -> np.ndarray:
    """Returns the rows (23, 3) of a sample.

    Per stage, the factor of the mean that is added to the image; per stage, the limit; the factors
    to weighted channels, back, and to the result; shifts of the hue; whether to jitter; 0; 1.
    """
    pulls, limits = np.zeros(len(_STAGES)), np.ones(len(_STAGES))
    stage, scale, limit = 0, 1.0, 1.0  # the image is `scale` times the tensor
    for name in jitter.order if jitter else ():
        if name != "brightness":
            stage = _STAGES.index(name, stage + 1)
        if name != "hue":
            factor = getattr(jitter, name)
            scale *= factor
            limit = 1 / scale if name in _AVERAGED else min(limit, 1 / scale)
        if name in _AVERAGED:
            pulls[stage] = 3 * (1 / factor - 1)  # the mean of weighted channels is a third of luma
        limits[stage:] = limit
    shifts = 6 * (jitter.hue if jitter else 0.0) + np.array([5, 3, 1])
    luma, full = np.array(LUMA), np.ones(3)
    return np.stack([
        *(pulls[:, None] * luma), *(_BELOW_ONE * limits[:, None] * luma),
        luma, 1 / luma, scale / luma, shifts, full * (jitter is not None), 0 * full, full,
    ])  # fmt: skip


def _shift_hue(images: torch.Tensor, shifts: torch.Tensor, ones: torch.Tensor) -> torch.Tensor:
    """Rotates the hue of (B, V, 3, H, W) by (B, 1, 3, 1, 1), as `color_jitter` does."""
    value, brightest = images.max(2, keepdim=True)
    darkest = images.amin(2, keepdim=True)
    chroma = (value - darkest).clamp_min_(_SMALLEST)
    opposite = torch.linalg.cross(images, ones, dim=2)  # green - blue, blue - red, red - green
    k = torch.addcdiv(shifts, opposite.gather(2, brightest), chroma)
    k = k.add_(brightest, alpha=2).remainder_(6)
    return torch.lerp(value, darkest, torch.minimum(k, 4 - k).clamp_(0, 1))
