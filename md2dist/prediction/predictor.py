"""Prediction of image files with a trained model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from md2dist.data.image_reader import read_image
from md2dist.errors import ImageError, PredictionError
from md2dist.model import MonodepthModel
from md2dist.prediction.aspect_crop import Box, aspect_box
from md2dist.prediction.camera import CameraSource
from md2dist.prediction.colour_bar import draw_colour_bar
from md2dist.prediction.colour_maps import colour_disparity, disparity_bounds
from md2dist.prediction.image_files import write_depth_png, write_npy, write_picture
from md2dist.prediction.point_cloud import default_bound, write_point_cloud


@dataclass(frozen=True)
class PredictionOptions:
    """What is predicted of an image, and written besides depth and pictures.

    Args:
        is_metric: whether the depth, with its factor, is in metres.
        with_disparity: writes ``NAME_disparity.npy``, scaled disparity in 1/m without the factor.
        points_of: camera for ``NAME_points.ply``, a point cloud; None: it is not written.
        max_depth: depth of the farthest points; None: `default_bound`.
        crop_to_aspect: predicts the image's centre, of the model's aspect ratio, alone.
    """

    is_metric: bool = True
    with_disparity: bool = False
    points_of: CameraSource | None = None
    max_depth: float | None = None
    crop_to_aspect: bool = False


def frames_predictor(model: MonodepthModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """Wraps a model for `evaluate_depth`.

    Args:
        model: in eval mode, on any device.

    Returns:
        A function from frames (B, H, W, 3) uint8, of the model's size and on any device, to scaled
        disparity (B, 1, H, W) float32 in 1/m on the model's device.
    """
    device = next(model.parameters()).device

    def predict(frames: torch.Tensor) -> torch.Tensor:
        return model.predict_scaled_disparity(_to_images(frames, device))

    return predict


def motion_predictor(
    model: MonodepthModel,
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Wraps a model for `predict_motions`.

    Args:
        model: in eval mode, on any device.

    Returns:
        A function from frames (B, H, W, 3) uint8, of the model's size and on any device, and the
        next ones to point transforms (B, 4, 4) float32 on the model's device.
    """
    device = next(model.parameters()).device

    def predict(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return model.predict_transform(_to_images(first, device), _to_images(second, device))

    return predict


def predict_files(
    model: MonodepthModel,
    images: Sequence[Path],
    output: Path,
    *,
    factor: float = 1.0,
    depth_format: Literal["png", "npy"] = "png",
    on_unreadable: Callable[[ImageError], object] | None = None,
    options: PredictionOptions = PredictionOptions(),
) -> Iterator[Path]:
    """Predicts images and writes three files for each, or more as `options` say.

    ``NAME_depth.png`` (16 bit, 1/256 m) or ``NAME_depth.npy`` (float32, m) and
    ``NAME_disparity.png`` (coloured), at the image's size, and ``NAME_picture.png`` (beside the
    image, above a colour bar).

    Args:
        model: in eval mode.
        images: files with distinct names.
        output: folder of the results; created if missing.
        factor: factor of the depth; `STEREO_FACTOR` converts the depth of a model trained with
            stereo to metres. Monocular depth has no scale.
        depth_format: format of the depth file.
        on_unreadable: called with the error of an image that cannot be read, which is skipped;
            None: the error is raised.
        options: further results.

    Yields:
        The depth file of each image, once all of its files are written.

    Raises:
        ImageError: if an image cannot be read or a result cannot be written.
        PredictionError: if a depth is not positive and finite; nothing is written for that image.
    """
    for path in images:
        try:
            image = read_image(path)
        except ImageError as error:
            if on_unreadable is None:
                raise
            on_unreadable(error)
            continue
        size, box = image.size, Box(0, 0, *image.size)
        if options.crop_to_aspect:
            box = aspect_box(size, (model.width, model.height))
            image = image.crop(box)
        disparity = model.predict_image(image)
        depth = scaled_depth(disparity, factor)
        start, (width, height) = str(output / path.stem), image.size
        bounds = disparity_bounds(disparity)
        bar = draw_colour_bar(2 * width, bounds, factor, is_metric=options.is_metric)
        picture = np.empty((height + len(bar), 2 * width, 3), np.uint8)  # of maybe many megapixels
        colours, coloured = picture[:height, :width], picture[:height, width:]
        colours[:], picture[height:] = np.asarray(image), bar
        del image
        coloured[:] = colour_disparity(disparity, bounds)
        write_picture(Path(f"{start}_disparity.png"), coloured)
        write_picture(Path(f"{start}_picture.png"), picture)
        if options.with_disparity:
            write_npy(Path(f"{start}_disparity.npy"), disparity)
        if options.points_of is not None:
            write_point_cloud(
                Path(f"{start}_points.ply"),
                depth,
                colours,
                options.points_of.camera_of(size, box),
                max_depth=options.max_depth or default_bound(depth, is_metric=options.is_metric),
                comments=(
                    f"camera {options.points_of}",
                    f"unit {'metres' if options.is_metric else 'none, depth is relative'}",
                ),
            )
        depth_path = Path(f"{start}_depth.{depth_format}")
        (write_depth_png if depth_format == "png" else write_npy)(depth_path, depth)
        yield depth_path


def _to_images(frames: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Converts frames (B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1] on a device."""
    return frames.to(device).permute(0, 3, 1, 2).float() / 255


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
