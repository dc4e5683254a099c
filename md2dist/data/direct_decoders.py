"""Direct decoders: codecs that write the pixels of plain files into an array, where Pillow agrees.

A file is plain if it holds one RGB image with 8 bits per channel, and no metadata that could turn
it. Pillow decodes into memory of its own with four bytes per pixel, and passes a WebP through a
canvas besides, before NumPy can copy the pixels.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Content = bytes | memoryview
Decoder = Callable[[Any, Pixels], object]  # contents of a file; (H, W, 3) RGB, to be filled
_PROBES = {  # options of Pillow's encoders; the chroma of a JPEG is upsampled in three ways
    "JPEG": [{"quality": 95, "subsampling": chroma} for chroma in ("4:4:4", "4:2:2", "4:2:0")],
    "PNG": [{}],
    "WEBP": [{"lossless": True}],
}
_PNG_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_RGB = b"\x08\x02\0\0\0"  # 8 bits, colour, not interlaced
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_WEBP_LOSSLESS = b"WEBPVP8L"  # without the header that alpha, EXIF and animations take
_JPEG_FRAME, _JPEG_SCAN = 0xC0, 0xDA  # markers, of sequential Huffman coding
_JPEG_TABLES = (0xC4, 0xDB, 0xDD, 0xE0)  # Huffman, quantisation, restart interval, JFIF
_JPEG_END = b"\xff\xd9"


def plain_size(content: Content) -> tuple[int, int] | None:
    """Returns height and width that a file states in pixels; None if it is not plain."""
    head = bytes(content[:33])
    if head.startswith(_PNG_HEADER):
        return _png_size(content) if head[24:29] == _PNG_RGB else None
    if head.startswith(b"RIFF") and head[8:16] == _WEBP_LOSSLESS and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")  # width - 1, height - 1, alpha
        return None if bits >> 28 else ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
    return _jpeg_size(content) if head.startswith(b"\xff\xd8\xff") else None


def _png_size(content: Content) -> tuple[int, int] | None:
    position = len(_PNG_HEADER) + 17  # further fields of the header, and its checksum
    while content[position + 4 : position + 8] == b"IDAT":
        position += 12 + int.from_bytes(content[position : position + 4])
    if content[position:] != PNG_END:
        return None
    return int.from_bytes(content[20:24]), int.from_bytes(content[16:20])


def _jpeg_size(content: Content) -> tuple[int, int] | None:
    if content[-2:] != _JPEG_END:  # libjpeg would fill up a truncated image
        return None
    size, position = None, 2
    while content[position : position + 1] == b"\xff":
        marker = content[position + 1]
        segment = bytes(content[position + 4 : position + 10])
        if marker == _JPEG_SCAN:
            return size
        if marker == _JPEG_FRAME and segment[:1] + segment[5:] == b"\x08\x03":  # bits, channels
            size = int.from_bytes(segment[1:3]), int.from_bytes(segment[3:5])
        elif marker not in _JPEG_TABLES:
            return None
        position += 2 + int.from_bytes(content[position + 2 : position + 4])
    return None


@cache
def find_decoder(file_format: str, reference: Callable[[Content], Pixels]) -> Decoder | None:
    """Returns the direct decoder of a format; None if its library is missing, or disagrees.

    It takes plain files, and raises an error of any type for damaged bytes and for an image of
    another size than the array; then the array holds any values.

    Args:
        file_format: ``JPEG``, ``PNG`` or ``WEBP``.
        reference: decodes a file to (H, W, 3) uint8 RGB, with which the decoder has to agree bit
            for bit.
    """
    try:
        decode = _DECODERS[file_format]
        probes = list(_probes(file_format))
        pairs = [(_decoded(decode, probe), reference(probe)) for probe in probes]
    except Exception as error:  # missing libraries, functions or arguments
        logger.debug("%s is decoded by Pillow: %s", file_format, error)
        return None
    if any(not np.array_equal(found, expected) for found, expected in pairs):
        logger.warning(
            "imagecodecs decodes a %s to other values than Pillow, so the slower Pillow decodes "
            "them; install the tested versions: pip install -c constraints.txt -e .",
            file_format,
        )
        return None
    return decode


def _decode_jpeg(content: Any, out: Pixels) -> None:
    """Decodes a JPEG into `out`, (H, W, 3)."""
    from imagecodecs import jpeg8_decode

    jpeg8_decode(content, out=out)


def _decode_png(content: Any, out: Pixels) -> None:
    """Decodes a PNG into `out`, (H, W, 3)."""
    from imagecodecs import png_decode

    png_decode(content, out=out)


def _decode_webp(content: Any, out: Pixels) -> None:
    """Decodes a WebP into `out`, (H, W, 3)."""
    from imagecodecs import webp_decode

    webp_decode(content, hasalpha=False, out=out)


_DECODERS: dict[str, Decoder] = {"JPEG": _decode_jpeg, "PNG": _decode_png, "WEBP": _decode_webp}


def _probes(file_format: str) -> Iterator[bytes]:
    """Encodes a small image, smooth and noisy, in the ways that a decoder treats differently."""
    rows, columns = np.mgrid[:40, :72]
    waves = np.stack([np.sin(columns / 9 + i) * np.cos(rows / 7) for i in range(3)], -1)
    noise = np.random.default_rng(0).normal(size=waves.shape)
    pixels = (127 + 90 * waves + 15 * noise).clip(0, 255).astype(np.uint8)
    for options in _PROBES[file_format]:
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, file_format, **options)
        yield stream.getvalue()


def _decoded(decode: Decoder, content: Content) -> Pixels:
    """Returns a probe as (40, 72, 3) pixels."""
    out = np.zeros((40, 72, 3), np.uint8)
    decode(content, out)
    return out
