"""Reference of md2dist.data.loading.augment: pixel by pixel in float64, with colorsys."""

import colorsys

import numpy as np


def jittered(image: np.ndarray, factors: dict[str, float], order: tuple[str, ...]) -> np.ndarray:
    """Applies colour jitter to one frame, (3, H, W) float64 in [0, 1]; returns (3, H, W)."""
    _, height, width = image.shape
    for name in order:
        factor = factors[name]
        mean = np.mean([grey(image[:, y, x]) for y in range(height) for x in range(width)])
        result = np.empty_like(image)
        for y in range(height):
            for x in range(width):
                pixel = image[:, y, x]
                if name == "brightness":
                    changed = factor * pixel
                elif name == "contrast":
                    changed = factor * pixel + (1 - factor) * mean
                elif name == "saturation":
                    changed = factor * pixel + (1 - factor) * grey(pixel)
                else:
                    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
                    changed = np.array(colorsys.hsv_to_rgb((hue + factor) % 1, saturation, value))
                result[:, y, x] = np.minimum(1, np.maximum(0, changed))
        image = result
    return image


def grey(pixel: np.ndarray) -> float:
    """Returns the luma of one RGB pixel (3,)."""
    red, green, blue = pixel
    return 0.299 * red + 0.587 * green + 0.114 * blue


def mirrored(image: np.ndarray) -> np.ndarray:
    """Flips one frame (3, H, W) horizontally."""
    width = image.shape[-1]
    result = np.empty_like(image)
    for x in range(width):
        result[:, :, x] = image[:, :, width - 1 - x]
    return result
