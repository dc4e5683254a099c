"""Result files of a predicted image: depth, pictures, and on request disparity and points."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from md2dist.errors import PredictionError
from md2dist.prediction.batches import Loaded
from md2dist.prediction.camera import CameraSource
from md2dist.prediction.colour_bar import draw_colour_bar
from md2dist.prediction.colour_maps import colour_disparity, disparity_bounds
from md2dist.prediction.image_files import write_depth_png, write_npy, write_picture
from md2dist.prediction.pictures import Picture
from md2dist.prediction.point_cloud import default_bound, write_point_cloud


@dataclass(frozen=True)
class PredictionOptions:
    """What is predicted of an image, and written besides depth and pictures.

    Args:
        is_metric: whether the depth, with its factor, is in metres.
        with_pictures: writes ``NAME_disparity.png`` and ``NAME_picture.png``.
        with_disparity: writes ``NAME_disparity.npy``, scaled disparity in 1/m without the factor.
        points_of: camera for ``NAME_points.ply``, a point cloud; None: it is not written.
        max_depth: depth of the farthest points; None: `default_bound`.
        crop_to_aspect: predicts the image's centre, of the model's aspect ratio, alone.
    """

    is_metric: bool = True
    with_pictures: bool = True
    with_disparity: bool = False
    points_of: CameraSource | None = None
    max_depth: float | None = None
    crop_to_aspect: bool = False


@dataclass(frozen=True)
class ResultWriter:
    """Writes the result files of images.

    Args:
        output: folder of the results; created if missing.
        factor: factor of the depth.
        depth_format: format of the depth file.
        options: further results.
        bounds: scaled disparities of the darkest and of the brightest colour; None: those of each
            image.
    """

    output: Path
    factor: float
    depth_format: Literal["png", "npy"]
    options: PredictionOptions
    bounds: tuple[float, float] | None = None

    def write(self, name: str, loaded: Loaded, disparity: NDArray[np.float32]) -> Path:
        """Writes the results of scaled disparity (H, W) in 1/m.

        Args:
            name: begins the names of the files.
            loaded: the image (H, W).
            disparity: finite.

        Returns:
            The depth file, which is written last.

        Raises:
            ImageError: if a result cannot be written.
            PredictionError: if a depth is not positive and finite; nothing is written.
        """
        options, start = self.options, str(self.output / name)
        scaled_depth(disparity, self.factor)  # checked, but not held in memory beside the pictures
        if options.with_pictures:
            self._write_pictures(start, loaded.image, disparity)
        depth = scaled_depth(disparity, self.factor)
        if options.with_disparity:
            write_npy(Path(f"{start}_disparity.npy"), disparity)
        if options.points_of is not None:
            write_point_cloud(
                Path(f"{start}_points.ply"),
                depth,
                np.asarray(loaded.image),
                options.points_of.camera_of(loaded.full_size, loaded.box),
                max_depth=options.max_depth or default_bound(depth, is_metric=options.is_metric),
                comments=(
                    f"camera {options.points_of}",
                    f"unit {'metres' if options.is_metric else 'none, depth is relative'}",
                ),
            )
        depth_path = Path(f"{start}_depth.{self.depth_format}")
        (write_depth_png if self.depth_format == "png" else write_npy)(depth_path, depth)
        return depth_path

    def _write_pictures(
        self, start: str, image: Image.Image, disparity: NDArray[np.float32]
    ) -> None:
        """Writes the pictures of a disparity (H, W)."""
        picture = draw_result(
            image,
            disparity,
            self.bounds or disparity_bounds(disparity),
            self.factor,
            is_metric=self.options.is_metric,
        )
        height, width = disparity.shape
        write_picture(Path(f"{start}_disparity.png"), picture[:height, width:])
        write_picture(Path(f"{start}_picture.png"), picture)


def draw_result(
    image: Image.Image,
    disparity: NDArray[np.float32],
    bounds: tuple[float, float],
    factor: float,
    *,
    is_metric: bool,
) -> Picture:
    """Draws an image beside its disparity (H, W), above a colour bar.

    Args:
        image: RGB, (H, W).
        disparity: scaled disparity in 1/m.
        bounds: as for `draw_colour_bar`.
        factor: as for `draw_colour_bar`.
        is_metric: as for `draw_colour_bar`.

    Returns:
        (H + h, 2 W, 3), with a bar of h rows.
    """
    height, width = disparity.shape
    bar = draw_colour_bar(2 * width, bounds, factor, is_metric=is_metric)
    picture = np.empty((height + len(bar), 2 * width, 3), np.uint8)  # of maybe many megapixels
    picture[:height, :width], picture[height:] = np.asarray(image), bar
    picture[:height, width:] = colour_disparity(disparity, bounds)
    return picture


def scaled_depth(disparity: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Converts scaled disparity (H, W) in 1/m to depth.

    Raises:
        PredictionError: if a depth is not positive and finite.
    """
    with np.errstate(over="ignore"):
        depth = factor / disparity
    if not (np.isfinite(depth) & (depth > 0)).all():
        raise PredictionError(
            f"--scale {factor:g} gives depths that float32 cannot hold; use a factor near 1"
        )
    return depth
