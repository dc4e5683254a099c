"""Objective: the loss of all scales from predictions and images."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch

from md2dist.config import LossConfig
from md2dist.geometry.camera import divide_intrinsics, reproject
from md2dist.geometry.disparity import disparity_to_depth, scale_disparity
from md2dist.geometry.pose import scale_translation
from md2dist.geometry.resize import downsample, join, upsample
from md2dist.geometry.warp import warp
from md2dist.kernel_style import prefers_few_kernels
from md2dist.losses.eager_gradient import differentiate_eagerly
from md2dist.losses.photometric import photometric_error
from md2dist.losses.reprojection import draw_tie_noise, predictive_mask_loss, reduce_sources
from md2dist.losses.smoothness import smoothness_loss
from md2dist.networks.depth_decoder import NUM_SCALES
from md2dist.records import Batch, StepOutput

Noise = Sequence[Sequence[torch.Tensor]]  # see `draw_noise`


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
    identity_error: torch.Tensor | None  # (B, S, 1, h, w); None without auto-mask


def compute_loss(
    predictions: Predictions,
    batch: Batch,
    settings: LossConfig,
    noise: Noise = (),
) -> StepOutput:
    """Compares the target with the sources warped by predicted depth and motion.

    On a GPU, all samples and scales are compared at once, in few kernels. On a CPU, they are
    processed one by one, so that their maps stay in its cache.

    Source: Godard et al., ICCV 2019, section 3; "v1" is the multi-scale loss of Godard et al.,
    CVPR 2017, section 3.3.

    Args:
        predictions: outputs of the networks, which receive the gradient.
        batch: its plain images are compared.
        settings: weights and options of the loss.
        noise: tie-breaking noise, as `draw_noise` returns it; () for none.

    Returns:
        The loss, its parts per scale, and the images of scale 0, see `StepOutput`.
    """
    parts = [
        _compute_part(*_select(predictions, batch, samples), settings, noise[i] if noise else ())
        for i, samples in enumerate(_split(batch))
    ]
    losses, scale_losses, warps, auto_masks = zip(*parts, strict=True)
    return StepOutput(
        loss=torch.stack(losses).mean(0).mean(),
        scale_losses=torch.stack(scale_losses).mean(0).detach(),
        disparities=tuple(disparity.detach() for disparity in predictions.disparities),
        T_source_target=predictions.T_source_target.detach(),
        warped=join(warps).detach(),
        auto_mask=join(auto_masks),
    )


def draw_noise(
    batch: Batch, settings: LossConfig, has_mean_depth: bool, generator: torch.Generator | None
) -> Noise:
    """Draws the noise on the identity error that breaks ties.

    Args:
        batch: as for `compute_loss`.
        settings: weights and options of the loss.
        has_mean_depth: whether translations are in units of the mean depth.
        generator: None: the device's default.

    Returns:
        For each part of the batch, for each group of its scales: (b, S, N, h, w), or
        (b, 1, N, h, w) where sources are averaged.
    """
    if not settings.use_auto_mask or settings.tie_noise <= 0:
        return ()
    num_sources = 1 if settings.use_average else batch.sources.shape[1]
    height, width = batch.target.shape[-2:]
    noise = []
    for samples in _split(batch):
        of_part = []
        for scales in _group_scales(settings, has_mean_depth, batch.target.device):
            shift = scales[0] if settings.use_v1_multiscale else 0
            num_samples = len(batch.target[samples])
            shape = num_samples, num_sources, len(scales), height >> shift, width >> shift
            of_part.append(draw_tie_noise(shape, settings.tie_noise, batch.target, generator))
        noise.append(of_part)
    return noise


def _split(batch: Batch) -> list[slice]:
    """Returns the parts of a batch that are compared at once."""
    num_samples = len(batch.target)
    step = num_samples if prefers_few_kernels(batch.target.device) else 1
    return [slice(start, start + step) for start in range(0, num_samples, step)]


def _group_scales(
    settings: LossConfig, has_mean_depth: bool, device: torch.device
) -> list[tuple[int, ...]]:
    """Returns the scales that are compared at once: all that share images and motion."""
    is_shared = not settings.use_v1_multiscale and not has_mean_depth
    if is_shared and prefers_few_kernels(device):
        return [tuple(range(NUM_SCALES))]
    return [(scale,) for scale in range(NUM_SCALES)]


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
    noise: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compares a part of the batch.

    Returns losses (groups,) that average to the loss; without gradient, the losses (num_scales,),
    and of scale 0, warped (B, S, 3, H, W) and auto_mask (B, H, W).
    """
    view = _make_view(batch, 0, settings)
    results = []
    groups = _group_scales(settings, predictions.num_in_mean_depth > 0, batch.target.device)
    for i, scales in enumerate(groups):
        if settings.use_v1_multiscale and scales[0] > 0:
            view = _make_view(batch, scales[0], settings)
        function = partial(
            _compute_scales, view, batch.target, scales, settings, noise[i] if noise else None
        )
        disparities = predictions.disparities[scales[0] : scales[-1] + 1]
        masks = predictions.masks[scales[0] : scales[-1] + 1]
        transforms = _measure_in_depth(predictions, disparities[0], settings)
        results.append(differentiate_eagerly(function, transforms, *disparities, *masks))
    losses, scale_losses, warps, auto_masks = zip(*results, strict=True)
    return torch.stack(losses), join(scale_losses), warps[0], auto_masks[0]


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
        identity_error = identity_error[:, :, None]
    return View(target, sources, divide_intrinsics(batch.K, scale), identity_error)


def _compute_scales(
    view: View,
    target: torch.Tensor,
    scales: Sequence[int],
    settings: LossConfig,
    noise: torch.Tensor | None,
    T_source_target: torch.Tensor,
    *maps: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compares N scales at the size of a view; `maps` are their disparities, then their masks.

    Returns the mean of their losses (), the losses (N,), and of the first scale, warped
    (B, S, 3, h, w) and auto_mask (B, h, w).
    """
    num, size = len(scales), view.target.shape[-2:]
    disparities, masks = maps[:num], maps[num:]
    losses = [
        settings.smoothness_weight
        / 2**scale
        * smoothness_loss(disparity, downsample(target, scale))
        for scale, disparity in zip(scales, disparities, strict=True)
    ]
    disparity = join([upsample(disparity, *size) for disparity in disparities], dim=2)
    depth = disparity_to_depth(disparity, settings.min_depth, settings.max_depth)
    coordinates = reproject(depth, view.K, T_source_target, num)
    warped = warp(view.sources, coordinates).unflatten(-2, (num, size[0]))  # (B, S, 3, N, h, w)
    error = photometric_error(warped, view.target[:, :, None], settings.use_ssim)
    if masks:
        masks = [upsample(mask, *size) for mask in masks]
        error = error * torch.stack(masks, dim=2)
        losses = [a + predictive_mask_loss(mask) for a, mask in zip(losses, masks, strict=True)]
    error, auto_mask = reduce_sources(error, view.identity_error, settings.use_average, noise)
    scale_losses = torch.stack(losses) + error.mean((0, 2, 3))
    return scale_losses.mean(), scale_losses.detach(), warped[:, :, :, 0], auto_mask[:, 0]
