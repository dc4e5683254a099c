"""KITTI's depth prediction benchmark: its test images, and depth maps for its server."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from md2dist.data.image_reader import read_image
from md2dist.data.image_size import count_pixels
from md2dist.data.images import FAST_PNG
from md2dist.errors import ImageError
from md2dist.model import MonodepthModel
from md2dist.prediction.batches import (
    BATCH_SIZE,
    Loaded,
    group_by_pixels,
    predict_in_batches,
)
from md2dist.prediction.image_files import depth_levels, is_marked, write_picture
from md2dist.prediction.result_files import scaled_depth
from md2dist.storage.results import (
    is_marked_zip,
    mark_zip,
    prepare_file,
    refuse_file_name,
    write_result,
)

NUM_IMAGES = 500
MAX_DEPTH = 80.0  # m
_NAME = r"\d{10}\.png"
_IMAGES = "depth_selection/test_depth_prediction_anonymous/image"  # in data_depth_selection.zip


def find_benchmark_images(folder: Path) -> list[Path]:
    """Finds the test images, ``0000000000.png`` to ``0000000499.png``.

    Args:
        folder: the folder of the images, or one of those above it in data_depth_selection.zip.

    Raises:
        ImageError: if they are not there, or not exactly these.
    """
    parts = _IMAGES.split("/")
    places = [folder.joinpath(*parts[start:]) for start in range(len(parts), -1, -1)]
    expected = [f"{number:010d}.png" for number in range(NUM_IMAGES)]
    place = next((place for place in places if (place / expected[0]).is_file()), None)
    if place is None:
        raise ImageError(
            f"{folder} has no test images {expected[0]} to {expected[-1]}; extract "
            f"data_depth_selection.zip, and pass its folder {_IMAGES}"
        )
    found = {path.name for path in place.iterdir() if re.fullmatch(_NAME, path.name)}
    if found != set(expected):
        wrong = sorted(found ^ set(expected))
        raise ImageError(
            f"{place} has {len(found)} images, expected {expected[0]} to {expected[-1]}; "
            f"{'extra' if wrong[0] in found else 'missing'}: {wrong[0]}; pass {_IMAGES} of "
            "data_depth_selection.zip"
        )
    return [place / name for name in expected]


def prepare_output(images: Sequence[Path], output: Path, *, overwrite: bool) -> None:
    """Checks that the results replace only earlier ones, unless `overwrite` allows all.

    Raises:
        ImageError: if a path is a URL, or a file of another origin is there.
    """
    if _is_archive(output):
        prepare_file(output, lambda path: overwrite or is_marked_zip(path))
        return
    refuse_file_name(output)
    for image in images:
        prepare_file(output / image.name, lambda path: overwrite or is_marked(path))


def write_submission(
    model: MonodepthModel, images: Sequence[Path], output: Path, factor: float
) -> None:
    """Predicts images and writes their depth, at most 80 m, as 16-bit PNGs in units of 1/256 m.

    Args:
        model: in eval mode.
        images: image files; each depth map has the name and the size of its image.
        output: a folder, or a file ``.zip`` to be uploaded, which appears once it is complete.
        factor: factor of the depth to metres.

    Raises:
        ImageError: if an image cannot be read or a result cannot be written.
        PredictionError: if a depth is not positive and finite.
    """
    maps = _predict_maps(model, images, factor)
    if not _is_archive(output):
        for name, levels in maps:
            write_picture(output / name, levels)
        return

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, levels in maps:
                with archive.open(zipfile.ZipInfo(name), "w") as member:  # dated 1980, always
                    Image.fromarray(levels).save(member, format="PNG", **FAST_PNG)
        mark_zip(file)

    write_result(output, write)


def _is_archive(output: Path) -> bool:
    return output.suffix.lower() == ".zip"


def _predict_maps(
    model: MonodepthModel, images: Sequence[Path], factor: float
) -> Iterator[tuple[str, NDArray[np.uint16]]]:
    """Yields the name of each image and its depth (H, W) in units of 1/256 m."""

    def finish(
        path: Path, loaded: Loaded, disparity: NDArray[np.float32]
    ) -> tuple[str, NDArray[np.uint16]]:
        """Converts scaled disparity (H, W)."""
        depth = scaled_depth(disparity, factor)
        return path.name, depth_levels(np.minimum(depth, MAX_DEPTH))

    batches = group_by_pixels(images, count_pixels, BATCH_SIZE)
    for result in predict_in_batches(model, batches, read_image, finish):
        if isinstance(result, ImageError):
            raise result
        yield result
