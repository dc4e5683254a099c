"""Contents of image files, also of such as no program would write."""

import io
import zlib

import numpy as np
from PIL import Image


def random_image(height: int = 24, width: int = 40, seed: int = 0) -> Image.Image:
    """Returns an RGB image of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def encode(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    """Returns the image as a file of that format."""
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def png_of(
    width: int, height: int, row: bytes = b"", chunks: bytes = b"", bits: int = 8, colour: int = 2
) -> bytes:
    """Returns a PNG with `height` equal rows, and further chunks before its pixels.

    The size may differ from that of the pixels; `colour` is 2 for RGB, 0 for grey.
    """
    size = width.to_bytes(4) + height.to_bytes(4)
    header = chunk(b"IHDR", size + bytes([bits, colour, 0, 0, 0]))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * height if row else b""))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + pixels + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    """Returns a chunk of a PNG."""
    body = name + data
    return len(data).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
