"""Decoding, resizing and encoding of frames for shards."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from PIL import Image

from md2dist.conventions import DEPTH_UNITS_PER_METRE
from md2dist.data.image_reader import decode_rgb, load_image
from md2dist.errors import DamagedImageError, ImageError, KittiDataError

ImageFormat = Literal["png", "jpg", "webp"]

# Mean over 21 KITTI frames at 640x192, one core: kB, ms to encode, ms to decode, dB against the
# original. On filtered pixels, run-length matching compresses as well as deflate; no quality
# setting makes up for the error of subsampled chroma.
#   png, level 1             251   8.9  3.4        jpg 95, chroma 4:4:4   89   0.6  0.9   38.9
#   png, level 6             230  20.2  3.1        jpg 95, chroma 4:2:0   62   0.4  0.6   34.5
#   png, run lengths         230   7.0  3.1        jpg 100, chroma 4:2:0 122   0.5  0.9   35.8
#   webp lossless, method 0  214   3.2  2.1        webp, method 4        202  78.2  2.1
# On the pictures of a prediction at KITTI's size, they take 143 ms, level 6 takes 494 ms, for files
# that are smaller by 6 %.
_RUN_LENGTHS = 3  # zlib's Z_RLE
FAST_PNG = {"compress_level": 1, "compress_type": _RUN_LENGTHS}  # for `PIL.Image.Image.save`


def decode_frame(content: bytes, name: str) -> Image.Image:
    """Decodes an image of KITTI, or of one's own camera, to upright RGB, see `decode_rgb`.

    Args:
        content: contents of the file.
        name: name of the file, for messages.

    Raises:
        KittiDataError: if it cannot be decoded.
    """
    with _naming_the_image(name):
        return decode_rgb(content)


def decode_pixels(content: bytes, name: str) -> Image.Image:
    """Decodes an image in its own mode, see `load_image`.

    Arguments and errors are those of `decode_frame`.
    """
    with _naming_the_image(name):
        return load_image(content)


def decode_depth(content: bytes, name: str) -> np.ndarray:
    """Decodes a depth map stored as PNG with 16 bits, in steps of 1/256 m.

    Args:
        content: contents of the file.
        name: kind and name of the file, for messages.

    Returns:
        Depth (H, W) float32 in m, 0 where unknown.

    Raises:
        KittiDataError: if it cannot be decoded, is not 16-bit greyscale, or without any depth.
    """
    image = decode_pixels(content, name)
    counts = np.asarray(image)
    if image.mode != "I;16" or not counts.any():
        raise KittiDataError(f"{name} is not 16-bit greyscale, or has no known pixel")
    return counts / np.float32(DEPTH_UNITS_PER_METRE)


@contextmanager
def _naming_the_image(name: str) -> Iterator[None]:
    try:
        yield
    except DamagedImageError as error:
        message = f"image {name} is broken ({error}); extract or download it again"
        raise KittiDataError(message) from None
    except ImageError as error:
        raise KittiDataError(f"image {name} cannot be used: {error}") from None


def resize_frame(frame: Image.Image, height: int, width: int) -> Image.Image:
    """Resizes an image with a Lanczos filter, as the published recipe does.

    Mirroring and resizing commute bit for bit, so a packed frame may be flipped later.
    """
    return frame.resize((width, height), Image.Resampling.LANCZOS)


def encode_frame(frame: Image.Image, image_format: ImageFormat, quality: int) -> bytes:
    """Encodes an RGB image: ``png`` and ``webp`` losslessly, ``jpg`` with full chroma.

    Args:
        frame: the image.
        image_format: ``png``, ``jpg`` or ``webp``.
        quality: 1..100, for ``jpg`` only.

    Raises:
        ValueError: if the format is unknown.
    """
    stream = io.BytesIO()
    if image_format == "png":
        frame.save(stream, "PNG", **FAST_PNG)
    elif image_format == "webp":
        frame.save(stream, "WEBP", lossless=True, quality=0, method=0)
    elif image_format == "jpg":
        frame.save(stream, "JPEG", quality=quality, subsampling="4:4:4")
    else:
        raise ValueError(f"unknown image format {image_format!r}")
    return stream.getvalue()


def resize_intrinsics(
    K: np.ndarray, native: tuple[int, int], packed: tuple[int, int]
) -> np.ndarray:
    """Adapts intrinsics to a resized image.

    Args:
        K: (3, 3) intrinsics in pixels of the native image.
        native: height and width of the native image, pixels.
        packed: height and width after resizing, pixels.

    Returns:
        K (3, 3) in pixels of the resized image. Pixel centres are at integers, and resizing keeps
        the image's outer edges, half a pixel outside the first and last centre.
    """
    (native_height, native_width), (height, width) = native, packed
    scale = np.diag([width / native_width, height / native_height, 1.0])
    to_edge = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return np.linalg.inv(to_edge) @ scale @ to_edge @ K
