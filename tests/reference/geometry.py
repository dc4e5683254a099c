"""Reference of md2dist.geometry: pixel by pixel in float64, from the formulas."""

import math

import numpy as np


def rotation(axis_angle):
    """Rodrigues' formula: axis-angle (3,) to rotation matrix (3, 3)."""
    angle = math.sqrt(sum(v * v for v in axis_angle))
    x, y, z = (v / (angle + 1e-7) for v in axis_angle)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    outer = np.outer([x, y, z], [x, y, z])
    return math.cos(angle) * np.eye(3) + (1 - math.cos(angle)) * outer + math.sin(angle) * cross


def transform(axis_angle, translation, is_inverted):
    """Returns Trans(t) R, or its inverse R^T Trans(-t), as a product of 4x4 matrices."""
    R, shift = np.eye(4), np.eye(4)
    R[:3, :3] = rotation(axis_angle)
    shift[:3, 3] = translation
    if is_inverted:
        shift[:3, 3] = -shift[:3, 3]
        return R.T @ shift
    return shift @ R


def project_pixel(x, y, depth, K, T):
    """Projects the target's pixel (x, y) at a depth into the source; returns pixels (x, y)."""
    point = depth * np.linalg.inv(K) @ np.array([x, y, 1.0])
    px, py, pz = K @ (T[:3, :3] @ point + T[:3, 3])
    return px / (pz + 1e-7), py / (pz + 1e-7)


def sample(image, x, y):
    """Samples an image (C, H, W) bilinearly at pixel (x, y), with border padding; returns (C,)."""
    height, width = image.shape[1:]
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = math.floor(x), math.floor(y)
    colour = np.zeros(len(image))
    for row, row_weight in ((top, top + 1 - y), (top + 1, y - top)):
        for column, column_weight in ((left, left + 1 - x), (left + 1, x - left)):
            if row < height and column < width:
                colour += row_weight * column_weight * image[:, row, column]
    return colour


def warp(source, depth, K, T):
    """Warps the source (C, H, W) to the target view with its depth map (H, W)."""
    warped = np.zeros((len(source), *depth.shape))
    for y in range(depth.shape[0]):
        for x in range(depth.shape[1]):
            warped[:, y, x] = sample(source, *project_pixel(x, y, depth[y, x], K, T))
    return warped


def upsample(plane, height, width):
    """Resizes a plane (h, w) bilinearly, with half-pixel centres and border padding."""
    scale_y, scale_x = plane.shape[0] / height, plane.shape[1] / width
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            position = (x + 0.5) * scale_x - 0.5, (y + 0.5) * scale_y - 0.5
            result[y, x] = sample(plane[None], *position)[0]
    return result


def downsample(image, scale):
    """Downsamples an image (C, H, W) by means over blocks of 2^scale x 2^scale pixels."""
    size = 2**scale
    channels, height, width = image.shape
    result = np.zeros((channels, height // size, width // size))
    for y in range(height // size):
        for x in range(width // size):
            block = image[:, y * size : (y + 1) * size, x * size : (x + 1) * size]
            result[:, y, x] = block.mean((1, 2))
    return result
