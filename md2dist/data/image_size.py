"""Sizes of image files, read from their headers."""

from pathlib import Path

from PIL import ExifTags, Image

from md2dist.data.image_reader import (
    DECODERS,
    PICTURE_FORMATS,
    UPRIGHT,
    explaining_damage,
    has_signature,
)
from md2dist.errors import DamagedImageError, ImageError
from md2dist.storage.bounded import open_regular


def read_size(path: Path) -> tuple[int, int]:
    """Returns height and width in pixels of an image file, upright; reads its header only.

    Raises:
        ImageError: if it cannot be read.
        DamagedImageError: if it is no PNG or JPEG.
    """
    try:
        with open_regular(path) as file:
            start = file.read(16)
            found = [name for name in PICTURE_FORMATS if has_signature(start, name)]
            if not found:
                raise DamagedImageError(f"{path} is not a {' or '.join(PICTURE_FORMATS)} file")
            file.seek(0)
            with explaining_damage():
                image = DECODERS[found[0]](file)
                # The general method: that of PNG decodes the image, whatever its size.
                tags = Image.Image.getexif(image)
                orientation = tags.get(ExifTags.Base.Orientation, 1)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from None
    is_turned = orientation in UPRIGHT and orientation > 4
    return (image.width, image.height) if is_turned else (image.height, image.width)


def count_pixels(path: Path) -> int:
    """Returns the number of pixels that an image file states, 0 if its header cannot be read."""
    try:
        with open_regular(path) as file:
            start = file.read(16)
            file.seek(0)
            (found,) = (name for name in PICTURE_FORMATS if has_signature(start, name))
            with DECODERS[found](file) as image:
                return image.width * image.height
    except Exception:  # decoders raise errors of many types; `read_image` says which
        return 0
