"""Flip and colour jitter, drawn on the host per sample, computed on the device.

The draw depends on (seed, epoch, sample) alone, not on the batch or the rank. It consists of Python
numbers, so applying it never synchronises with the device.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

from md2dist.data.loading.batch_jitter import jitter_batch, tabulate
from md2dist.data.loading.color_jitter import CHANGES, ColorJitter, jitter_color
from md2dist.errors import check_shape
from md2dist.kernel_style import prefers_few_kernels
from md2dist.records import Batch, FrameBatch

_STREAM = 1  # keeps these random numbers apart from others of the same seed
_MAX_FACTOR_CHANGE = 0.2  # of brightness, contrast and saturation
_MAX_HUE_SHIFT = 0.1  # of the circle


# Factors of the elements of T_stereo and K for a flip.
_FLIPPED_T_STEREO = np.array([1, 1, 1, -1] + [1] * 12)
_MIRRORED_K = np.array([1, 1, -1] + [1] * 6)


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
    change = _change_together if prefers_few_kernels(frames.frames.device) else _change_one_by_one
    images, jittered, K, T_stereo = change(frames, draw, use_true_intrinsics)
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


def _scale_jitter(amounts: list[float]) -> ColorJitter:
    """Maps eight uniform numbers to a jitter: four amounts, and the order from the other four."""
    brightness, contrast, saturation, hue = (2 * amount - 1 for amount in amounts[:4])
    return ColorJitter(
        brightness=1 + _MAX_FACTOR_CHANGE * brightness,
        contrast=1 + _MAX_FACTOR_CHANGE * contrast,
        saturation=1 + _MAX_FACTOR_CHANGE * saturation,
        hue=_MAX_HUE_SHIFT * hue,
        order=tuple(name for _, name in sorted(zip(amounts[4:], CHANGES, strict=True))),
    )


def _change_one_by_one(
    frames: FrameBatch, draw: AugmentationDraw, use_true_intrinsics: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns plain and jittered images (B, 1+S, 3, H, W), K (B, 3, 3) and T_stereo (B, 4, 4)."""
    pixels = frames.frames
    if any(draw.is_flipped):
        flips = zip(pixels, draw.is_flipped, strict=True)
        pixels = torch.stack([x.flip(2) if is_flipped else x for x, is_flipped in flips])
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
    return images, jittered, K, T_stereo


def _change_together(
    frames: FrameBatch, draw: AugmentationDraw, use_true_intrinsics: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Does what `_change_one_by_one` does, in as many kernels for any number of samples.

    Shapes: (B, 1+S, 3, H, W) twice, (B, 3, 3), (B, 4, 4).
    """
    pixels = frames.frames
    is_flipped = np.array(draw.is_flipped)[:, None]
    turned = np.where(is_flipped, _FLIPPED_T_STEREO, 1)
    is_mirrored = is_flipped & use_true_intrinsics
    mirrored = np.where(is_mirrored, _MIRRORED_K, 1)
    shift = is_mirrored * (pixels.shape[3] - 1) * (_MIRRORED_K < 0)
    parts = is_flipped, turned, mirrored, shift, tabulate(draw.jitters)
    table = _to_device(np.concatenate(parts, 1), pixels)
    flips, turned, mirrored, shift, jitters = table.split([x.shape[1] for x in parts], 1)

    pixels = torch.where(flips[:, :, None, None, None] > 0, pixels.flip(3), pixels)
    images = pixels.new_empty(pixels.movedim(-1, 2).shape, dtype=torch.float32)
    torch.div(pixels.movedim(-1, 2), 255, out=images)
    jittered = jitter_batch(images, jitters) if any(draw.jitters) else images
    K = torch.addcmul(shift.unflatten(1, (3, 3)), frames.K, mirrored.unflatten(1, (3, 3)))
    return images, jittered, K, frames.T_stereo * turned.unflatten(1, (4, 4))


def _to_device(table: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Copies an array (B, N) as float32 to the device of a tensor of any shape, without waiting."""
    host = torch.from_numpy(table.astype(np.float32))
    return (host.pin_memory() if like.is_cuda else host).to(like.device, non_blocking=True)
