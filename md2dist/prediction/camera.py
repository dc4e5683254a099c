"""Pinhole camera of an image: given intrinsics, a field of view, or KITTI's."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from md2dist.conventions import FOCAL_LENGTHS
from md2dist.errors import ConfigError
from md2dist.prediction.aspect_crop import Box


class Camera(NamedTuple):
    """Focal lengths and principal point in pixels; pixel centres are at whole numbers."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class CameraSource:
    """Where the camera of an image comes from; with neither value, it is KITTI's.

    Args:
        intrinsics: in pixels of the whole image.
        view_degrees: horizontal field of view of the whole image, in degrees.
    """

    intrinsics: Camera | None = None
    view_degrees: float | None = None

    def camera_of(self, size: tuple[int, int], box: Box) -> Camera:
        """Returns the camera in pixels of a part of an image.

        KITTI's is 0.58 widths and 1.92 heights of that part, as networks trained on KITTI see it;
        the others are those of the whole image, moved to the part.

        Args:
            size: width and height of the whole image.
            box: the part.
        """
        if self.intrinsics is not None:
            camera = self.intrinsics
        elif self.view_degrees is not None:
            focal = size[0] / 2 / math.tan(math.radians(self.view_degrees) / 2)
            camera = Camera(focal, focal, size[0] / 2, size[1] / 2)
        else:
            width, height = box.right - box.left, box.bottom - box.top
            fx, fy = FOCAL_LENGTHS
            return Camera(fx * width, fy * height, width / 2, height / 2)
        return camera._replace(cx=camera.cx - box.left, cy=camera.cy - box.top)

    def __str__(self) -> str:
        """Names the source."""
        if self.intrinsics is not None:
            return "given by --intrinsics"
        if self.view_degrees is not None:
            return f"given by --fov {self.view_degrees:g}"
        return "KITTI's (0.58 widths, 1.92 heights), assumed"


def read_camera_source(intrinsics: str | None, view_degrees: float | None) -> CameraSource:
    """Parses the options `--intrinsics` and `--fov`.

    Raises:
        ConfigError: if they are no four numbers, or not in range.
    """
    if view_degrees is not None and not 0 < view_degrees < 180:
        raise ConfigError(f"--fov {view_degrees:g}: expected degrees > 0 and < 180")
    if intrinsics is None:
        return CameraSource(None, view_degrees)
    try:
        camera = Camera(*map(float, intrinsics.split(",")))
    except (TypeError, ValueError):
        camera = None
    if camera is None or not all(map(math.isfinite, camera)) or min(camera.fx, camera.fy) <= 0:
        raise ConfigError(
            f"--intrinsics {intrinsics}: expected fx,fy,cx,cy in pixels of the image, with fx and "
            "fy > 0, for example 721.5,721.5,609.6,172.9"
        )
    return CameraSource(camera, view_degrees)
