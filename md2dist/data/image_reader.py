"""Image reader: the only module that opens image files, in named formats and within limits."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from md2dist.data.direct_decoders import PNG_END, Content, Pixels, find_decoder, plain_size
from md2dist.errors import DamagedImageError, ImageError, ShapeError
from md2dist.storage.bounded import open_regular

FileFormat = Literal["PNG", "JPEG", "WEBP"]
PICTURE_FORMATS: tuple[FileFormat, ...] = ("PNG", "JPEG")
SHARD_FORMATS: tuple[FileFormat, ...] = ("PNG", "JPEG", "WEBP")
IMAGE_SUFFIXES = tuple(
    f".{spell(suffix)}"
    for spell in (str.lower, str.upper, str.title)
    for suffix in ("png", "jpg", "jpeg")
)
MAX_PIXELS = 64_000_000  # of an image; of a decoded one, 4 bytes each are in memory
_MAX_BYTES = 4 * MAX_PIXELS  # of a file: 8 bits in each of four channels, uncompressed

# The decoders themselves: `PIL.Image.open` chooses by content among dozens, of which one passes
# PostScript to Ghostscript, which runs it, even if the file is called x.png.
DECODERS = {"PNG": PngImageFile, "JPEG": JpegImageFile, "WEBP": WebPImageFile}
_SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF"}
_PNG_DEPTH_AT = 24  # byte of a PNG that holds the bits per channel
_SCAN = b"\xff\xda"  # marker in a JPEG; a progressive one has about ten scans
_MAX_SCANS = 100
UPRIGHT = {  # from EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Path) -> Image.Image:
    """Reads an image file as upright RGB, see `decode_rgb`.

    Raises:
        ImageError: if it cannot be read.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ImageError(f"it has more than {_MAX_BYTES:,} bytes")
        return decode_rgb(content)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from None
    except ImageError as error:
        raise ImageError(f"{path} cannot be read as an image: {error}") from None


def is_picture(path: Path) -> bool:
    """Returns whether a file is named as a PNG or JPEG, or begins as one."""
    if path.suffix in IMAGE_SUFFIXES:
        return True
    try:
        with open_regular(path) as file:
            start = file.read(16)
    except OSError:
        return False
    return any(has_signature(start, name) for name in PICTURE_FORMATS)


def to_rgb(image: str | Path | Image.Image | NDArray[np.uint8]) -> Image.Image:
    """Returns an image file, a PIL image or an array (H, W, 3) uint8 as upright RGB.

    Raises:
        ImageError: as `read_image` and `convert_to_rgb`.
        ShapeError: if an array is not (H, W, 3) uint8.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return convert_to_rgb(image)
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        raise ShapeError(
            f"image is {array.dtype} of shape {array.shape}; expected uint8 of (H, W, 3)"
        )
    return Image.fromarray(array)


def decode_rgb(
    content: Content,
    formats: Sequence[FileFormat] = PICTURE_FORMATS,
    size: tuple[int, int] | None = None,
    *,
    verify: bool = True,
) -> Image.Image:
    """Decodes an image file to upright RGB with 8 bits per channel.

    Arguments and errors are those of `load_image`, conversion and further errors those of
    `convert_to_rgb`. A PNG with 16 bits per channel is an error, too.
    """
    pixels = _decode_directly(content, formats, size, verify=verify)
    if pixels is not None:
        return Image.fromarray(pixels)
    image = load_image(content, formats, size, verify=verify)
    if isinstance(image, PngImageFile) and content[_PNG_DEPTH_AT] > 8:
        raise _refuse_depth("16 bits")
    return convert_to_rgb(image)


def decode_array(
    content: Content,
    formats: Sequence[FileFormat] = PICTURE_FORMATS,
    size: tuple[int, int] | None = None,
    out: Pixels | None = None,
    *,
    verify: bool = True,
) -> Pixels:
    """Decodes an image file as `decode_rgb` does, to an array.

    Args:
        content: contents of the file.
        formats: accepted formats.
        size: expected height and width in pixels; None: any.
        out: (H, W, 3) C-contiguous array of that size, which is filled; None: a new one.
        verify: as for `load_image`.

    Returns:
        (H, W, 3) uint8 RGB: `out`, if there is one.

    Raises:
        ImageError: as `decode_rgb`; also if the image, turned upright, does not fit into `out`.
            Then `out` holds any values.
    """
    pixels = _decode_directly(content, formats, size, out, verify=verify)
    if pixels is not None:
        return pixels
    pixels = np.asarray(decode_rgb(content, formats, size, verify=verify))
    if out is None:
        return pixels
    _check_size(pixels.shape[:2], out.shape[:2])
    out[...] = pixels
    return out


def _decode_directly(
    content: Content,
    formats: Sequence[FileFormat],
    size: tuple[int, int] | None,
    out: Pixels | None = None,
    *,
    verify: bool,
) -> Pixels | None:
    """Decodes a plain file to (H, W, 3) pixels; None if it is for Pillow to read, or to refuse."""
    accepted: list[FileFormat] = [name for name in formats if has_signature(content, name)]
    found = accepted[0] if accepted else None
    stated = plain_size(content) if found else None
    decode = find_decoder(found, _decode_with_pillow) if found and stated else None
    if not (found and stated and decode):
        return None
    _check_size(stated, size)
    with suppress(Exception):  # of many types
        if verify and found != "PNG":  # of which the decoder itself checks all that
            _verify(content, found)
        pixels = np.empty((*stated, 3), np.uint8) if out is None else out
        decode(content, pixels)
        return pixels
    return None


def _decode_with_pillow(content: Content) -> Pixels:
    """Returns the (H, W, 3) pixels of an RGB image."""
    return np.asarray(load_image(content, SHARD_FORMATS, verify=False))


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Converts an image with 8 bits per channel to RGB, and turns it upright as its EXIF states.

    Grey, palette and CMYK images become RGB; transparency and colour profiles are ignored.

    Raises:
        ImageError: if it has more bits per channel, which Pillow would clip, or is damaged.
    """
    if image.mode.startswith(("I", "F")):  # integers of 16 or 32 bits, floating point
        raise _refuse_depth(f"the mode {image.mode}")
    with explaining_damage():
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # without this step, Pillow warns
        orientation = image.getexif().get(ExifTags.Base.Orientation)
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        return rgb.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else rgb


def load_image(
    content: Content,
    formats: Sequence[FileFormat] = PICTURE_FORMATS,
    size: tuple[int, int] | None = None,
    *,
    verify: bool = True,
) -> Image.Image:
    """Decodes an image file in its own mode; of an animation, the first image.

    Args:
        content: contents of the file.
        formats: accepted formats.
        size: expected height and width in pixels; None: any. More than `MAX_PIXELS` are an error.
        verify: also check the checksums and the end of a PNG, which decoding does not need, and the
            number of a JPEG's scans, each of which costs as much time as the first.

    Raises:
        ImageError: if the image has another size, which is checked before it is decoded.
        DamagedImageError: if it is damaged, or has none of the formats.
    """
    accepted: list[FileFormat] = [name for name in formats if has_signature(content, name)]
    if not accepted:
        raise DamagedImageError(f"not a {' or '.join(formats)} file")
    (found,) = accepted
    with explaining_damage():
        image = DECODERS[found](io.BytesIO(content))
    _check_size((image.height, image.width), size)
    with explaining_damage():
        if verify:
            _verify(content, found)
        image.load()
    return image


def has_signature(content: Content, name: FileFormat) -> bool:
    """Returns whether a file begins as one of a format."""
    signature = _SIGNATURES[name]
    return content[: len(signature)] == signature


def _check_size(found: tuple[int, int], expected: tuple[int, int] | None) -> None:
    height, width = found
    if expected is not None and found != expected:
        raise ImageError(f"it has {height}x{width} pixels; expected {expected[0]}x{expected[1]}")
    if height * width > MAX_PIXELS:
        raise ImageError(f"it has {height}x{width} pixels; expected at most {MAX_PIXELS:,}")


def _verify(content: Content, file_format: FileFormat) -> None:
    content = bytes(content)
    if file_format == "PNG":
        if PNG_END not in content:
            raise DamagedImageError("image file is truncated")
        PngImageFile(io.BytesIO(content)).verify()
    elif content.count(_SCAN) > _MAX_SCANS:
        raise ImageError(f"it has {content.count(_SCAN)} scans; expected at most {_MAX_SCANS}")


def _refuse_depth(found: str) -> ImageError:
    return ImageError(f"it has {found}; expected 8 bits per channel, to which it can be converted")


@contextmanager
def explaining_damage() -> Iterator[None]:
    """Turns any error of a decoder inside into a DamagedImageError."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # on damaged bytes, decoders raise errors of many types
        raise DamagedImageError(str(error) or type(error).__name__) from None
