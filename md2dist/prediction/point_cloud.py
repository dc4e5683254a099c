"""Point cloud of an image from its depth and camera, as a binary PLY file."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from md2dist.prediction.camera import Camera
from md2dist.prediction.image_files import PLY_START
from md2dist.prediction.pictures import Picture
from md2dist.storage.results import write_result

MAX_METRES = 80.0  # default bound: lidar's range in KITTI, to which depth is evaluated
_MAX_MEDIANS = 5.0  # default bound of depth without unit; 80 m is about as far in KITTI's images
_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])  # 15 bytes, without padding
_BLOCK = 1 << 18  # pixels at a time: an image may have millions


def default_bound(depth: NDArray[np.floating], *, is_metric: bool) -> float:
    """Returns the bound of points: 80 m, or five times the median of relative depth (H, W)."""
    return MAX_METRES if is_metric else _MAX_MEDIANS * float(np.median(depth))


def write_point_cloud(
    path: Path,
    depth: NDArray[np.floating],
    image: Picture,
    camera: Camera,
    *,
    max_depth: float,
    comments: tuple[str, ...] = (),
) -> None:
    """Writes the points of an image up to a depth, marked as a result of md2dist.

    The file has `x y z` (float) in the unit of the depth, x to the right, y down, z forward, and
    `red green blue` (uchar); points are in the order of the pixels, row by row.

    Args:
        path: the file.
        depth: (H, W).
        image: (H, W, 3) RGB.
        camera: in pixels of the image.
        max_depth: points beyond it are left out.
        comments: lines for the header, in ASCII.

    Raises:
        ImageError: if the file cannot be written.
    """
    notes = (
        f"fx {camera.fx:.9g} fy {camera.fy:.9g} cx {camera.cx:.9g} cy {camera.cy:.9g}, "
        f"pixels of {depth.shape[1]}x{depth.shape[0]}",
        "x right, y down, z forward",
        f"points up to z = {max_depth:.9g}",
        *comments,
    )
    header = [
        *(f"comment {note}" for note in notes),
        f"element vertex {np.count_nonzero(depth <= max_depth)}",
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "end_header",
    ]

    def write(file: BinaryIO) -> None:
        file.write(PLY_START + "".join(f"{line}\n" for line in header).encode())
        for vertices in _vertices(depth, image, camera, max_depth):
            file.write(vertices.tobytes())

    write_result(path, write)


def _vertices(
    depth: NDArray[np.floating], image: Picture, camera: Camera, max_depth: float
) -> Iterator[NDArray[np.void]]:
    """Yields the vertices (N,) of some rows of (H, W) at a time."""
    height, width = depth.shape
    step = max(1, _BLOCK // width)
    for top in range(0, height, step):
        rows, columns = np.nonzero(depth[top : top + step] <= max_depth)
        rows += top
        z = depth[rows, columns].astype(np.float64)
        vertices = np.empty(len(z), _VERTEX)
        vertices["xyz"][:, 0] = (columns - camera.cx) / camera.fx * z
        vertices["xyz"][:, 1] = (rows - camera.cy) / camera.fy * z
        vertices["xyz"][:, 2] = z
        vertices["rgb"] = image[rows, columns]
        yield vertices
