"""Image files: finding images, writing depth and pictures."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from md2dist.conventions import DEPTH_UNITS_PER_METRE
from md2dist.data.image_reader import IMAGE_SUFFIXES
from md2dist.errors import ImageError
from md2dist.storage.results import write_result

RESULT_ENDINGS = ("_depth", "_disparity", "_picture")


def find_images(path: str | Path) -> list[Path]:
    """Lists one image, or the images of a folder sorted by name.

    Subfolders and results of earlier predictions are skipped.

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
        and not file.stem.endswith(RESULT_ENDINGS)
        and file.is_file()
    )
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


def write_depth_png(path: Path, depth: NDArray[np.floating]) -> None:
    """Writes depth (H, W) in m as 16-bit PNG, see `depth_levels`."""
    write_picture(path, depth_levels(depth))


def depth_levels(depth: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Converts depth in m to units of 1/256 m; it saturates at 255.996 m."""
    levels = depth * DEPTH_UNITS_PER_METRE
    np.round(levels, out=levels)  # in place, since an image may have millions of pixels
    np.clip(levels, 1, 2**16 - 1, out=levels)
    return levels.astype(np.uint16)


def write_depth_npy(path: Path, depth: NDArray[np.floating]) -> None:
    """Writes depth (H, W) in m as float32."""
    write_result(path, lambda file: np.save(file, depth.astype(np.float32)))


def write_picture(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Writes (H, W, 3) uint8 or (H, W) uint16 as PNG."""
    write_result(path, lambda file: Image.fromarray(picture).save(file, format="PNG"))
