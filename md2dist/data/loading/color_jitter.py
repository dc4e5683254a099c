"""Colour jitter of the frames of one sample: brightness, contrast, saturation and hue."""

from typing import NamedTuple

import torch

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)


class ColorJitter(NamedTuple):
    """Colour changes shared by all frames of one sample."""

    brightness: float  # factor, 0.8 to 1.2
    contrast: float  # factor
    saturation: float  # factor
    hue: float  # shift as a fraction of the circle, -0.1 to 0.1
    order: tuple[str, ...]  # the names of these four as they are applied


def jitter_color(images: torch.Tensor, jitter: ColorJitter) -> torch.Tensor:
    """Applies the four colour changes in the drawn order, clipping to [0, 1] after each.

    Args:
        images: (..., 3, H, W) in [0, 1].
        jitter: shared by all images.

    Returns:
        (..., 3, H, W) in [0, 1].
    """
    for name in jitter.order:
        images = CHANGES[name](images, getattr(jitter, name)).clamp_(0, 1)
    return images


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
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


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


CHANGES = {
    "brightness": _change_brightness,
    "contrast": _change_contrast,
    "saturation": _change_saturation,
    "hue": _shift_hue,
}
