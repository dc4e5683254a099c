"""Decoding of the images of samples."""

from typing import Any

import numpy as np

from md2dist.data.image_reader import SHARD_FORMATS, decode_array
from md2dist.errors import ImageError, ShardError


def decode_image(
    encoded: Any, size: tuple[int, int] | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Decodes the bytes of a JPEG, PNG or WebP image.

    Args:
        encoded: a bytes-like object.
        size: expected height and width in pixels; None: any that an image may have.
        out: (H, W, 3) uint8 array of that size, which is filled; None: a new one.

    Returns:
        (H, W, 3) uint8 RGB: `out`, if there is one.

    Raises:
        ShardError: if the image is damaged or truncated, or has another size.
    """
    try:
        return decode_array(encoded, SHARD_FORMATS, size, out, verify=False)
    except ImageError as error:
        raise ShardError(f"damaged or truncated image: {error}") from None
