"""`camera.yaml`: the camera of a recording, and the folders of its frames and depth maps."""

from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from md2dist.config_yaml import read_yaml, shorten
from md2dist.errors import ConfigError
from md2dist.storage.typed_json import FileName, Number, parse_record

CAMERA_NAME = "camera.yaml"
_EXPECTED = "expected fx, fy, cx, cy in pixels and the width and height of the images for which "
_EXPECTED += "they hold, e.g. `fx: 960.5`"
_DISTORTION = ("k1", "k2", "k3", "p1", "p2", "dist", "distortion", "distortion_coefficients", "D")
_Length = Annotated[int, Field(ge=1, le=1 << 14)]


@dataclass(frozen=True)
class CameraSettings:
    """Contents of ``camera.yaml``."""

    fx: Number  # focal lengths and principal point in pixels, pixel centres at integers
    fy: Number
    cx: Number
    cy: Number
    width: _Length  # of the images for which these hold, in pixels
    height: _Length
    baseline: Number | None = None  # m, between the left and the right camera
    left: FileName | None = None  # folder or video of the left camera; None: the recording itself
    right: FileName | None = None  # folder or video of the right camera
    depth: FileName | None = None  # folder of depth maps of the left camera

    @property
    def K(self) -> np.ndarray:  # noqa: N802
        """Camera matrix (3, 3) float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)


def find_camera_file(folder: Path) -> Path | None:
    """Finds ``camera.yaml`` beside frames, or else in the folder above; None if there is none."""
    folder = folder.absolute()
    places = (folder / CAMERA_NAME, folder.parent / CAMERA_NAME)
    return next((path for path in places if path.is_file()), None)


def read_camera_file(path: Path) -> CameraSettings:
    """Reads a ``camera.yaml``.

    Raises:
        ConfigError: if it cannot be read, or a key is missing, unknown, of another type or out of
            bounds.
    """
    try:
        content = read_yaml(path, str(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} has no keys; {_EXPECTED}")
    known = {field.name: field for field in fields(CameraSettings)}
    if unknown := [name for name in content if name not in known]:
        raise ConfigError(f"{path}: unknown key {shorten(unknown[0])}{_explain(unknown[0])}")
    missing = [name for name, f in known.items() if f.default is MISSING and name not in content]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}; {_EXPECTED}")
    try:
        settings = parse_record(CameraSettings, content)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if settings.right and settings.baseline is None:
        raise ConfigError(
            f"{path} names the right camera {settings.right}, but lacks baseline, the distance of "
            "the two cameras in m"
        )
    return settings


def _explain(name: Any) -> str:
    known = [field.name for field in fields(CameraSettings)]
    if name in _DISTORTION:
        return (
            ": frames must be without distortion; undistort them first, and give the intrinsics of "
            "the result"
        )
    near = get_close_matches(str(name)[:100], known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; expected {', '.join(known)}"
