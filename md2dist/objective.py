"""What training minimises: predictions and images in, the loss of all scales out.

The scales are computed one after another: on a CPU, a stack of them all outgrows the caches and
what the allocator keeps, and takes several times as long.
"""

from typing import NamedTuple

import torch

from md2dist.config import LossConfig
from md2dist.geometry.camera import reproject, scale_intrinsics
from md2dist.geometry.disparity import disparity_to_depth
from md2dist.geometry.resize import downsample, upsample
from md2dist.geometry.warp import warp
from md2dist.losses.photometric import photometric_error
from md2dist.losses.reprojection import predictive_mask_loss, reduce_sources
from md2dist.losses.smoothness import smoothness_loss
from md2dist.records import Batch, StepOutput


class Predictions(NamedTuple):
    """What the networks say about a batch."""

    disparities: tuple[torch.Tensor, ...]  # (B, 1, H/2^s, W/2^s) each, in (0, 1), scale 0 first
    masks: tuple[torch.Tensor, ...]  # (B, S, H/2^s, W/2^s) each, in (0, 1); () without a mask
    T_source_target: torch.Tensor  # (B, S, 4, 4)


class View(NamedTuple):
    """Target and sources at one resolution."""

    target: torch.Tensor  # (B, 3, h, w)
    sources: torch.Tensor  # (B, S, 3, h, w)
    K: torch.Tensor  # (B, 3, 3), pixels of `target`
    identity_error: torch.Tensor | None  # (B, S, h, w); None without auto-mask


def compute_loss(
    predictions: Predictions,
    batch: Batch,
    settings: LossConfig,
    generator: torch.Generator | None = None,
) -> StepOutput:
    """Compares the target with the sources that are warped by predicted depth and motion.

    Source: Godard et al., ICCV 2019, section 3; "v1" is the multi-scale loss of Godard et al.,
    CVPR 2017, section 3.3.

    Args:
        predictions: of the networks; the gradient goes back to them.
        batch: the plain images are compared.
        settings: weights and options.
        generator: of the noise that breaks ties; None: the device's default.

    Returns:
        The loss, its parts per scale, and the pictures of scale 0, see `StepOutput`.
    """
    view = _make_view(batch, 0, settings)
    scales = []
    for scale in range(len(predictions.disparities)):
        if settings.use_v1_multiscale and scale > 0:
            view = _make_view(batch, scale, settings)
        loss, warped, auto_mask = _synthesise(predictions, scale, view, settings, generator)
        smoothness = smoothness_loss(
            predictions.disparities[scale], downsample(batch.target, scale)
        )
        loss = loss + settings.smoothness_weight / 2**scale * smoothness
        scales.append((loss, warped, auto_mask))
    scale_losses = torch.stack([loss for loss, _, _ in scales])
    _, warped, auto_mask = scales[0]
    return StepOutput(
        loss=scale_losses.mean(),
        scale_losses=scale_losses.detach(),
        disparities=tuple(disparity.detach() for disparity in predictions.disparities),
        T_source_target=predictions.T_source_target.detach(),
        warped=warped.detach(),
        auto_mask=auto_mask,
    )


def _make_view(batch: Batch, scale: int, settings: LossConfig) -> View:
    target, sources = downsample(batch.target, scale), downsample(batch.sources, scale)
    identity_error = None
    if settings.use_auto_mask:
        identity_error = photometric_error(sources, target, settings.use_ssim)
    return View(target, sources, scale_intrinsics(batch.K, scale), identity_error)


def _synthesise(
    predictions: Predictions,
    scale: int,
    view: View,
    settings: LossConfig,
    generator: torch.Generator | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the photometric loss of one scale, the warped sources and the auto-mask."""
    size = view.target.shape[-2:]
    disparity = upsample(predictions.disparities[scale], *size)
    depth = disparity_to_depth(disparity, settings.min_depth, settings.max_depth)
    warped = warp(view.sources, reproject(depth, view.K, predictions.T_source_target))
    error = photometric_error(warped, view.target, settings.use_ssim)
    mask_loss = 0.0
    if predictions.masks:
        mask = upsample(predictions.masks[scale], *size)
        error = error * mask
        mask_loss = predictive_mask_loss(mask)
    error, auto_mask = reduce_sources(
        error, view.identity_error, settings.use_average, settings.tie_noise, generator
    )
    return error.mean() + mask_loss, warped, auto_mask
