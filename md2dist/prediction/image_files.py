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
from md2dist.errors import ImageError
from md2dist.storage.bounded import open_regular
from md2dist.storage.results import refuse_address, write_result

RESULT_ENDINGS = ("_depth", "_disparity", "_picture")
_MARK = b"tEXtSoftware\0md2dist"  # chunk of a PNG behind its header
_HEADER = 33  # bytes
# Begins our .npy files: NumPy itself pads the header of such an array to 128 bytes, not 512.
_NPY_FIELDS = b"{'descr': '<f4', 'fortran_order': False, 'shape': "
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
    by_stem: dict[str, Path] = {}
    for file in found:
        if by_stem.setdefault(file.stem, file) != file:
            raise ImageError(
                f"{by_stem[file.stem].name} and {file.name} in {path} would have the same names of "
                "results; rename one of them"
            )
    return found


def refuse_foreign_results(images: Sequence[Path], output: Path, depth_format: str) -> None:
    """Checks that the results of some images replace only results of earlier predictions.

    Raises:
        ImageError: naming the first file that would be replaced and is none.
    """
    refuse_address(output)
    for image in images:
        kinds = {"_disparity": "png", "_picture": "png", "_depth": depth_format}
        for ending, suffix in kinds.items():
            path = output / f"{image.stem}{ending}.{suffix}"
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
    """Returns whether `write_picture` or `write_depth_npy` wrote a file."""
    try:
        with open_regular(path) as file:
            start = file.read(_HEADER + 2 * len(_MARK))
    except OSError:
        return False
    return start.startswith(_NPY_START) if path.suffix == ".npy" else _MARK in start


def write_depth_png(path: Path, depth: NDArray[np.floating]) -> None:
    """Writes depth (H, W) in m as 16-bit PNG, see `depth_levels`."""
    write_picture(path, depth_levels(depth))


def depth_levels(depth: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Converts depth (H, W) in m to units of 1/256 m; it saturates at 255.996 m."""
    levels = depth * DEPTH_UNITS_PER_METRE
    np.round(levels, out=levels)  # in place, since an image may have millions of pixels
    np.clip(levels, 1, 2**16 - 1, out=levels)
    return levels.astype(np.uint16)


def write_depth_npy(path: Path, depth: NDArray[np.floating]) -> None:
    """Writes depth (H, W) in m as float32, marked as a result of md2dist by its padding."""
    header = (_NPY_START + f"{depth.shape}}}".encode()).ljust(511) + b"\n"
    content = np.ascontiguousarray(depth, "<f4")
    write_result(path, lambda file: file.writelines((header, content.data)))


def write_picture(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Writes (H, W, 3) uint8 or (H, W) uint16 as PNG, marked as a result of md2dist."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG")
    chunk = struct.pack(">I", len(_MARK) - 4) + _MARK + struct.pack(">I", zlib.crc32(_MARK))
    png = content.getbuffer()
    write_result(path, lambda file: file.writelines((png[:_HEADER], chunk, png[_HEADER:])))
