"""Reference of md2dist.losses and md2dist.objective: pixel by pixel in float64."""

import numpy as np
from reference import geometry


def reflect(index, size):
    """Reflects an index at the first and last entry."""
    if index < 0:
        return -index
    return 2 * (size - 1) - index if index >= size else index


def ssim_error(a, b):
    """Returns (1 - SSIM) / 2 of two planes (H, W), clamped to [0, 1]."""
    height, width = a.shape
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            rows = [reflect(y + i, height) for i in (-1, 0, 1)]
            columns = [reflect(x + i, width) for i in (-1, 0, 1)]
            u = np.array([a[row, column] for row in rows for column in columns])
            v = np.array([b[row, column] for row in rows for column in columns])
            mu, mv = u.mean(), v.mean()
            variances = (u * u).mean() - mu * mu + (v * v).mean() - mv * mv
            covariance = (u * v).mean() - mu * mv
            ssim = (2 * mu * mv + 0.01**2) * (2 * covariance + 0.03**2)
            ssim /= (mu * mu + mv * mv + 0.01**2) * (variances + 0.03**2)
            result[y, x] = min(max((1 - ssim) / 2, 0), 1)
    return result


def photometric_error(a, b, use_ssim=True):
    """Returns the photometric error (H, W) between images (C, H, W)."""
    difference = np.abs(a - b).mean(0)
    if not use_ssim:
        return difference
    ssim = np.mean([ssim_error(p, q) for p, q in zip(a, b, strict=True)], axis=0)
    return 0.85 * ssim + 0.15 * difference


def smoothness_loss(disparities, images):
    """Returns the edge-aware smoothness loss of disparities (B, H, W), images (B, C, H, W)."""
    along_x, along_y = [], []
    for disparity, image in zip(disparities, images, strict=True):
        d = disparity / (disparity.mean() + 1e-7)
        height, width = d.shape
        for y in range(height):
            for x in range(width):
                if x + 1 < width:
                    edge = np.abs(image[:, y, x] - image[:, y, x + 1]).mean()
                    along_x.append(abs(d[y, x] - d[y, x + 1]) * np.exp(-edge))
                if y + 1 < height:
                    edge = np.abs(image[:, y, x] - image[:, y + 1, x]).mean()
                    along_y.append(abs(d[y, x] - d[y + 1, x]) * np.exp(-edge))
    return np.mean(along_x) + np.mean(along_y)


def reduce_sources(reprojection, identity, use_average):
    """Returns error and auto-mask (H, W) from errors (S, H, W); identity may be None."""
    height, width = reprojection.shape[1:]
    error, auto_mask = np.zeros((height, width)), np.ones((height, width), dtype=bool)
    reduce = np.mean if use_average else np.min
    for y in range(height):
        for x in range(width):
            error[y, x] = reduce(reprojection[:, y, x])
            if identity is not None:
                unwarped = reduce(identity[:, y, x])
                auto_mask[y, x] = error[y, x] < unwarped
                error[y, x] = min(error[y, x], unwarped)
    return error, auto_mask


def predictive_mask_loss(mask):
    """Returns 0.2 times the cross entropy between the mask (any shape) and 1."""
    return 0.2 * np.mean([-np.log(value) for value in mask.flat])


def scale_losses(disparities, masks, T, batch, settings, num_in_mean_depth=0):
    """Returns the loss of each scale without noise, and scale 0's warped images and auto-masks.

    Args:
        disparities: list of (B, h, w), one per scale.
        masks: list of (B, S, h, w), one per scale, or None.
        T: T_source_target, (B, S, 4, 4).
        batch: a Batch of arrays.
        settings: a LossConfig.
        num_in_mean_depth: leading sources whose translation is in units of the mean depth.
    """
    losses, pictures = [], []
    num, num_sources = batch.sources.shape[:2]
    for scale, maps in enumerate(disparities):
        level = scale if settings.use_v1_multiscale else 0
        errors, auto_masks, all_warped, full_masks = [], [], [], []
        for b in range(num):
            target = geometry.downsample(batch.target[b], level)
            sources = [geometry.downsample(source, level) for source in batch.sources[b]]
            K = np.diag([0.5**level, 0.5**level, 1]) @ batch.K[b]
            disparity = geometry.upsample(maps[b], *target.shape[1:])
            lowest, highest = 1 / settings.max_depth, 1 / settings.min_depth
            depth = 1 / (lowest + (highest - lowest) * disparity)
            motions = T[b].copy()
            motions[:num_in_mean_depth, :3, 3] *= np.mean(1 / depth)
            warped = [geometry.warp(sources[s], depth, K, motions[s]) for s in range(num_sources)]
            reprojection = np.array(
                [photometric_error(w, target, settings.use_ssim) for w in warped]
            )
            identity = None
            if settings.use_auto_mask:
                identity = np.array(
                    [photometric_error(s, target, settings.use_ssim) for s in sources]
                )
            if masks is not None:
                mask = [geometry.upsample(m, *target.shape[1:]) for m in masks[scale][b]]
                reprojection = reprojection * np.array(mask)
                full_masks.append(mask)
            error, auto_mask = reduce_sources(reprojection, identity, settings.use_average)
            errors.append(error)
            auto_masks.append(auto_mask)
            all_warped.append(warped)
        images = [geometry.downsample(target, scale) for target in batch.target]
        loss = settings.smoothness_weight / 2**scale * smoothness_loss(maps, images)
        loss += np.mean(errors)
        if masks is not None:
            loss += predictive_mask_loss(np.array(full_masks))
        losses.append(loss)
        pictures.append((np.array(all_warped), np.array(auto_masks)))
    return np.array(losses), *pictures[0]
