"""Image files: finding images, writing depth and pictures."""

import io
import struct
import zlib
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from md2dist.conventions import DEPTH_UNITS_PER_METRE
from md2dist.data.image_reader import IMAGE_SUFFIXES
from md2dist.data.images import FAST_PNG
from md2dist.errors import ImageError
from md2dist.storage.bounded import open_regular
from md2dist.storage.results import write_result

RESULT_ENDINGS = ("_depth", "_disparity", "_picture", "_points")
_MARK = b"tEXtSoftware\0md2dist"  # chunk of a PNG behind its header
_HEADER = 33  # bytes
# Begins our .npy files: NumPy itself pads the header of such an array to 128 bytes, not 512.
_NPY_FIELDS = b"{'descr': '<f4', 'fortran_order': False, 'shape': "
PLY_START = b"ply\nformat binary_little_endian 1.0\ncomment written by md2dist\n"
_NPY_START = b"\x93NUMPY\x01\x00" + struct.pack("<H", 502) + _NPY_FIELDS


def find_images(path: str | Path) -> list[Path]:
    """Lists one image, or the images of a folder sorted by name.

    Subfolders, dot files and results of earlier predictions are skipped, such as a file
    ``NAME_depth.png`` beside an image ``NAME``.

    Raises:
        ImageError: if the path does not exist or has no image, or if two images would have the same
            names of results.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ImageError(f"{path} does not exist; expected an image or a folder of images")
    found = sorted(
        file
        for file in path.iterdir()
        if file.suffix in IMAGE_SUFFIXES
        and not file.name.startswith(".")  # e.g. ._NAME.png of macOS
        and file.is_file()
    )
    stems = {file.stem for file in found}
    found = [file for file in found if not (_is_result(file) or _belongs_to(file, stems))]
    if not found:
        raise ImageError(f"{path} has no image; expected files .png, .jpg, .jpeg")
    refuse_equal_names(found)
    return found


def refuse_equal_names(images: Sequence[Path]) -> None:
    """Checks that the results of each image have names of their own.

    Raises:
        ImageError: naming the first two images of which this is not so.
    """
    by_stem: dict[str, Path] = {}
    for image in images:
        earlier = by_stem.setdefault(image.stem, image)
        if earlier is image:
            continue
        if earlier == image:
            raise ImageError(f"{image} is listed twice; list it once")
        both = f"{earlier} and {image}"
        if earlier.parent == image.parent:
            both = f"{earlier.name} and {image.name} in {image.parent}"
        raise ImageError(
            f"{both} would have the same names of results; rename one of them, or predict them "
            "into different folders"
        )


def refuse_foreign_results(
    images: Sequence[Path], output: Path, depth_format: str, others: Sequence[str] = ()
) -> None:
    """Checks that the results of some images replace only results of earlier predictions.

    Args:
        images: the images.
        output: folder of the results.
        depth_format: format of the depth file.
        others: ends of the names of further results, such as ``_points.ply``.

    Raises:
        ImageError: naming the first file that would be replaced and is none.
    """
    for image in images:
        for ending in ("_disparity.png", "_picture.png", f"_depth.{depth_format}", *others):
            path = output / f"{image.stem}{ending}"
            if path.exists() and not _is_result(path):
                raise ImageError(
                    f"{path} exists, and is not a prediction; name another --output, or "
                    "pass --overwrite"
                )


def _is_result(path: Path) -> bool:
    """Returns whether a prediction wrote a file."""
    return path.stem.endswith(RESULT_ENDINGS) and is_marked(path)


def _belongs_to(path: Path, stems: Set[str]) -> bool:
    """Returns whether a file is named as a result of an image; earlier versions marked none."""
    return path.suffix == ".png" and any(
        path.stem.endswith(ending) and path.stem.removesuffix(ending) in stems
        for ending in RESULT_ENDINGS
    )


def is_marked(path: Path) -> bool:
    """Returns whether md2dist wrote a picture, a map or a point cloud."""
    try:
        with open_regular(path) as file:
            start = file.read(max(_HEADER + 2 * len(_MARK), len(PLY_START)))
    except OSError:
        return False
    starts = {".npy": _NPY_START, ".ply": PLY_START}
    return start.startswith(starts[path.suffix]) if path.suffix in starts else _MARK in start


def write_depth_png(path: Path, depth: NDArray[np.floating]) -> None:
    """Writes depth (H, W) in m as 16-bit PNG, see `depth_levels`."""
    write_picture(path, depth_levels(depth))


def depth_levels(depth: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Converts depth (H, W) in m to units of 1/256 m; it saturates at 255.996 m."""
    levels = depth * DEPTH_UNITS_PER_METRE
    np.round(levels, out=levels)  # in place, since an image may have millions of pixels
    np.clip(levels, 1, 2**16 - 1, out=levels)
    return levels.astype(np.uint16)


def write_npy(path: Path, values: NDArray[np.floating]) -> None:
    """Writes depth or disparity (H, W) as float32, marked as a result of md2dist by its padding."""
    header = (_NPY_START + f"{values.shape}}}".encode()).ljust(511) + b"\n"
    content = np.ascontiguousarray(values, "<f4")
    write_result(path, lambda file: file.writelines((header, content.data)))


def write_picture(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Writes (H, W, 3) uint8 or (H, W) uint16 as PNG, marked as a result of md2dist."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG", **FAST_PNG)
    chunk = struct.pack(">I", len(_MARK) - 4) + _MARK + struct.pack(">I", zlib.crc32(_MARK))
    png = content.getbuffer()
    write_result(path, lambda file: file.writelines((png[:_HEADER], chunk, png[_HEADER:])))
