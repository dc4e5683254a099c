"""Flip and colour jitter, drawn on the host per sample, computed on the device.

The draw depends on (seed, epoch, sample) alone, not on the batch or the rank. It consists of Python
numbers, so applying it never synchronises with the device.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

from md2dist.errors import check_shape
from md2dist.records import Batch, FrameBatch

_STREAM = 1  # keeps these random numbers apart from others of the same seed
_MAX_FACTOR_CHANGE = 0.2  # of brightness, contrast and saturation
_MAX_HUE_SHIFT = 0.1  # of the circle


class ColorJitter(NamedTuple):
    """Colour changes shared by all frames of one sample."""

    brightness: float  # factor, 0.8 to 1.2
    contrast: float  # factor
    saturation: float  # factor
    hue: float  # shift as a fraction of the circle, -0.1 to 0.1
    order: tuple[str, ...]  # the names of these four as they are applied


class AugmentationDraw(NamedTuple):
    """Flip and jitter of each sample of a batch."""

    is_flipped: tuple[bool, ...]
    jitters: tuple[ColorJitter | None, ...]


def draw_augmentation(
    seed: int, epoch: int, sample_ids: Iterable[int], *, use_flip: bool, use_color_jitter: bool
) -> AugmentationDraw:
    """Draws flip and jitter, each with probability 1/2.

    Args:
        seed: not negative.
        epoch: counted from 0.
        sample_ids: numbers of the samples, on the host.
        use_flip: whether samples are flipped; False leaves the jitters unchanged.
        use_color_jitter: whether samples are jittered; False leaves the flips unchanged.
    """
    is_flipped, jitters = [], []
    for sample_id in sample_ids:
        key = np.random.SeedSequence(seed, spawn_key=(_STREAM, epoch, int(sample_id)))
        flip, jitter, *amounts = np.random.default_rng(key).random(10).tolist()
        is_flipped.append(use_flip and flip < 0.5)
        jitters.append(_scale_jitter(amounts) if use_color_jitter and jitter < 0.5 else None)
    return AugmentationDraw(tuple(is_flipped), tuple(jitters))


def augment(
    frames: FrameBatch, draw: AugmentationDraw, *, use_true_intrinsics: bool = False
) -> Batch:
    """Makes the model's batch: images in [0, 1] after the flip, plain and jittered.

    Args:
        frames: (B, 1+S, H, W, 3) uint8, on the device that computes.
        draw: flips and jitters of these B samples.
        use_true_intrinsics: whether a flip mirrors the principal point; the recipe's K is
            symmetric and stays unchanged.

    Returns:
        A batch on the same device. Images of `target_aug` and `sources_aug` without jitter equal
        the plain ones bit for bit and may share their memory.

    Raises:
        ShapeError: if the frames are not (B, 1+S, H, W, 3) with the B of the draw.
    """
    check_shape(frames.frames, "B V H W 3", "frames", B=len(draw.is_flipped))
    pixels = _flip_where(frames.frames, draw.is_flipped)
    images = pixels.movedim(-1, 2).to(torch.float32, memory_format=torch.contiguous_format) / 255
    jittered = images
    if any(draw.jitters):
        jittered = torch.stack(
            [jitter_color(x, j) if j else x for x, j in zip(images, draw.jitters, strict=True)]
        )
    K, T_stereo = frames.K.clone(), frames.T_stereo.clone()
    for i, is_flipped in enumerate(draw.is_flipped):
        if is_flipped:
            T_stereo[i, 0, 3].neg_()
            if use_true_intrinsics:
                K[i, 0, 2].neg_().add_(images.shape[-1] - 1)
    return Batch(
        target=images[:, 0],
        target_aug=jittered[:, 0],
        sources=images[:, 1:],
        sources_aug=jittered[:, 1:],
        K=K,
        T_stereo=T_stereo,
        sample_id=frames.sample_id,
    )


def no_augmentation(frames: FrameBatch) -> Batch:
    """Makes the model's batch from (B, 1+S, H, W, 3) frames without augmentation."""
    num_samples = len(frames.frames)
    return augment(frames, AugmentationDraw((False,) * num_samples, (None,) * num_samples))


def jitter_color(images: torch.Tensor, jitter: ColorJitter) -> torch.Tensor:
    """Applies the four colour changes in the drawn order, clipping to [0, 1] after each.

    Args:
        images: (..., 3, H, W) in [0, 1].
        jitter: shared by all images.

    Returns:
        (..., 3, H, W) in [0, 1].
    """
    for name in jitter.order:
        images = _CHANGES[name](images, getattr(jitter, name)).clamp_(0, 1)
    return images


def _scale_jitter(amounts: list[float]) -> ColorJitter:
    """Maps eight uniform numbers to a jitter: four amounts, and the order from the other four."""
    brightness, contrast, saturation, hue = (2 * amount - 1 for amount in amounts[:4])
    return ColorJitter(
        brightness=1 + _MAX_FACTOR_CHANGE * brightness,
        contrast=1 + _MAX_FACTOR_CHANGE * contrast,
        saturation=1 + _MAX_FACTOR_CHANGE * saturation,
        hue=_MAX_HUE_SHIFT * hue,
        order=tuple(name for _, name in sorted(zip(amounts[4:], _CHANGES, strict=True))),
    )


def _flip_where(pixels: torch.Tensor, is_flipped: tuple[bool, ...]) -> torch.Tensor:
    """Mirrors the columns of some samples of (B, V, H, W, 3)."""
    if not any(is_flipped):
        return pixels
    return torch.stack([x.flip(2) if f else x for x, f in zip(pixels, is_flipped, strict=True)])


def _change_brightness(images: torch.Tensor, factor: float) -> torch.Tensor:
    """Scales (..., 3, H, W)."""
    return images * factor


def _change_contrast(images: torch.Tensor, factor: float) -> torch.Tensor:
    """Scales the difference of (..., 3, H, W) from the mean luma of each image."""
    return torch.lerp(_grey(images).mean((-2, -1), keepdim=True), images, factor)


def _change_saturation(images: torch.Tensor, factor: float) -> torch.Tensor:
    """Scales the difference of (..., 3, H, W) from the luma of each pixel."""
    return torch.lerp(_grey(images), images, factor)


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Returns the luma (..., 1, H, W) of (..., 3, H, W). Source: ITU-R BT.601."""
    red, green, blue = images.split(1, dim=-3)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _shift_hue(images: torch.Tensor, shift: float) -> torch.Tensor:
    """Rotates the hue of (..., 3, H, W), keeping value and chroma, in the hexcone model.

    Source: A. R. Smith, Color gamut transform pairs, SIGGRAPH 1978.
    """
    red, green, blue = images.unbind(-3)
    value = images.amax(-3)
    chroma = value - images.amin(-3)
    divisor = torch.where(chroma > 0, chroma, 1)  # grey has no hue; any value works
    sextant = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    channels = []
    for offset in (5, 3, 1):
        k = (sextant + (offset + 6 * shift)) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, -3)


_CHANGES = {
    "brightness": _change_brightness,
    "contrast": _change_contrast,
    "saturation": _change_saturation,
    "hue": _shift_hue,
}
