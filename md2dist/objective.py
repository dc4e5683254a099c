"""Objective: the loss of all scales from predictions and images."""

from functools import partial
from typing import NamedTuple

import torch

from md2dist.config import LossConfig
from md2dist.geometry.camera import divide_intrinsics, reproject
from md2dist.geometry.disparity import disparity_to_depth, scale_disparity
from md2dist.geometry.pose import scale_translation
from md2dist.geometry.resize import downsample, upsample
from md2dist.geometry.warp import warp
from md2dist.losses.eager_gradient import differentiate_eagerly
from md2dist.losses.photometric import photometric_error
from md2dist.losses.reprojection import predictive_mask_loss, reduce_sources
from md2dist.losses.smoothness import smoothness_loss
from md2dist.records import Batch, StepOutput


class Predictions(NamedTuple):
    """Outputs of the networks for a batch."""

    disparities: tuple[torch.Tensor, ...]  # (B, 1, H/2^s, W/2^s) each, in (0, 1), scale 0 first
    masks: tuple[torch.Tensor, ...]  # (B, S, H/2^s, W/2^s) each, in (0, 1); () without a mask
    T_source_target: torch.Tensor  # (B, S, 4, 4)
    num_in_mean_depth: int = 0  # leading sources whose translation is in units of the mean depth


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
    """Compares the target with the sources warped by predicted depth and motion.

    On a CPU, samples are processed one by one, so that their maps stay in its cache.

    Source: Godard et al., ICCV 2019, section 3; "v1" is the multi-scale loss of Godard et al.,
    CVPR 2017, section 3.3.

    Args:
        predictions: outputs of the networks, which receive the gradient.
        batch: its plain images are compared.
        settings: weights and options of the loss.
        generator: generator of the tie-breaking noise; None: the device's default.

    Returns:
        The loss, its parts per scale, and the images of scale 0, see `StepOutput`.
    """
    num_samples = len(batch.target)
    step = 1 if batch.target.device.type == "cpu" else num_samples
    parts = [
        _compute_part(*_select(predictions, batch, slice(start, start + step)), settings, generator)
        for start in range(0, num_samples, step)
    ]
    losses, warps, auto_masks = zip(*parts, strict=True)
    scale_losses = torch.stack(losses).mean(0)
    return StepOutput(
        loss=scale_losses.mean(),
        scale_losses=scale_losses.detach(),
        disparities=tuple(disparity.detach() for disparity in predictions.disparities),
        T_source_target=predictions.T_source_target.detach(),
        warped=torch.cat(warps),
        auto_mask=torch.cat(auto_masks),
    )


def _select(predictions: Predictions, batch: Batch, samples: slice) -> tuple[Predictions, Batch]:
    selected = predictions._replace(
        disparities=tuple(maps[samples] for maps in predictions.disparities),
        masks=tuple(maps[samples] for maps in predictions.masks),
        T_source_target=predictions.T_source_target[samples],
    )
    return selected, Batch(*(tensor[samples] for tensor in batch))


def _compute_part(
    predictions: Predictions,
    batch: Batch,
    settings: LossConfig,
    generator: torch.Generator | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns losses (num_scales,); of scale 0, warped (B, S, 3, H, W) and auto_mask (B, H, W)."""
    view = _make_view(batch, 0, settings)
    results = []
    for scale, disparity in enumerate(predictions.disparities):
        if settings.use_v1_multiscale and scale > 0:
            view = _make_view(batch, scale, settings)
        function = partial(_compute_scale, view, batch.target, scale, settings, generator)
        mask = predictions.masks[scale : scale + 1]
        inputs = (disparity, _measure_in_depth(predictions, disparity, settings), *mask)
        results.append(differentiate_eagerly(function, *inputs))
    _, warped, auto_mask = results[0]
    return torch.stack([loss for loss, _, _ in results]), warped, auto_mask


def _measure_in_depth(
    predictions: Predictions, disparity: torch.Tensor, settings: LossConfig
) -> torch.Tensor:
    """Returns T_source_target (B, S, 4, 4) in the units of a scale's depth.

    Upsampling a disparity does not change its mean.
    """
    num, transforms = predictions.num_in_mean_depth, predictions.T_source_target
    if not num:
        return transforms
    mean = disparity.mean(dim=(1, 2, 3))
    inverse_depth = scale_disparity(mean, settings.min_depth, settings.max_depth)
    scaled = scale_translation(transforms[:, :num], inverse_depth[:, None])
    return torch.cat((scaled, transforms[:, num:]), dim=1)


def _make_view(batch: Batch, scale: int, settings: LossConfig) -> View:
    target, sources = downsample(batch.target, scale), downsample(batch.sources, scale)
    identity_error = None
    if settings.use_auto_mask:
        identity_error = photometric_error(sources, target, settings.use_ssim)
    return View(target, sources, divide_intrinsics(batch.K, scale), identity_error)


def _compute_scale(
    view: View,
    target: torch.Tensor,
    scale: int,
    settings: LossConfig,
    generator: torch.Generator | None,
    disparity: torch.Tensor,
    T_source_target: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the loss () of one scale, warped (B, S, 3, h, w) and auto_mask (B, h, w)."""
    loss = smoothness_loss(disparity, downsample(target, scale))
    loss = settings.smoothness_weight / 2**scale * loss

    size = view.target.shape[-2:]
    disparity = upsample(disparity, *size)
    depth = disparity_to_depth(disparity, settings.min_depth, settings.max_depth)
    warped = warp(view.sources, reproject(depth, view.K, T_source_target))
    error = photometric_error(warped, view.target, settings.use_ssim)
    if mask is not None:
        mask = upsample(mask, *size)
        error = error * mask
        loss = loss + predictive_mask_loss(mask)
    error, auto_mask = reduce_sources(
        error, view.identity_error, settings.use_average, settings.tie_noise, generator
    )
    return loss + error.mean(), warped, auto_mask
