"""One drive through a synthetic street: measurements of its cameras, scanner and navigation unit.

Axes as KITTI's: cameras right, down, forward; scanner and IMU forward, left, up; the world x along
the street, y left, z up, in m.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from md2dist.conventions import FOCAL_LENGTHS
from md2dist.synthetic.motion import draw_motion, move
from md2dist.synthetic.ray_casting import Sensor, cast_rays, place_camera, place_scanner
from md2dist.synthetic.render import measure_depth, render
from md2dist.synthetic.scenery import surfaces_near
from md2dist.synthetic.street import Street, build_street
from md2dist.synthetic.texture import build_ripmaps

FRAME_RATE = 10.0  # Hz
BASELINE = 0.54  # m from camera 2 (left) to camera 3 (right)
CAMERA_X = {0: 0.0, 1: 0.54, 2: -0.06, 3: -0.06 + BASELINE}  # m to the right of camera 0

VELO_TO_CAM = np.array([[0.0, -1, 0, -0.004], [0, 0, -1, -0.076], [1, 0, 0, -0.272], [0, 0, 0, 1]])
IMU_TO_VELO = np.array([[1.0, 0, 0, -0.81], [0, 1, 0, 0.32], [0, 0, 1, -0.8], [0, 0, 0, 1]])

_BEAMS = np.radians(np.linspace(2.0, -24.8, 64))  # rad upwards
_SCAN_RANGE = 120.0  # m


@dataclass(frozen=True)
class Drive:
    """One drive of a synthetic world: all sensor measurements at any frame.

    A pure function of these four values: a street has no end, and the image size changes only the
    sampling. Cameras: 2 is the left one, 3 the right one, 0 the rig's reference.
    """

    seed: int  # of the world
    number: int  # of the drive
    height: int = 375  # pixels
    width: int = 1242  # pixels

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """K (3, 3) in pixels, equal to the intrinsics that the training recipe assumes."""
        W, H = self.width, self.height
        fx, fy = FOCAL_LENGTHS
        return np.array([[fx * W, 0, 0.5 * W], [0, fy * H, 0.5 * H], [0, 0, 1]])

    @property
    def street(self) -> Street:
        """The street of the drive."""
        return build_street(self.seed, self.number)

    def camera_pose(self, frame: float, camera: int = 2) -> NDArray[np.float64]:
        """The true pose (4, 4) of a camera, camera to world, in m."""
        pose = self._pose(frame)
        pose[:3, 3] += CAMERA_X[camera] * pose[:3, 0]
        return pose

    def imu_pose(self, frame: float) -> NDArray[np.float64]:
        """The true pose (4, 4) of the navigation unit, IMU to world, in m."""
        return self._pose(frame) @ VELO_TO_CAM @ IMU_TO_VELO

    def render(
        self, frame: float, camera: int = 2
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """RGB (H, W, 3) of a camera and its true depth (H, W) in m, infinite in the sky."""
        ripmaps = build_ripmaps(self.seed, self.number)
        return render(self.street, ripmaps, self._place(frame, camera))

    def depth(self, frame: float, camera: int = 2) -> NDArray[np.float64]:
        """The true depth (H, W) in m of a camera, infinite in the sky."""
        sensor = self._place(frame, camera)
        return measure_depth(cast_rays(sensor, surfaces_near(self.street, sensor.origin[0])))

    def scan(self, frame: float, azimuth_step: float = 0.3) -> NDArray[np.float32]:
        """Scans the half circle ahead with 64 beams.

        Args:
            frame: frame number; fractions are moments between frames.
            azimuth_step: degrees between two firings of a beam.

        Returns:
            (N, 4) x forward, y left, z up in m, and the brightness of the surface in [0, 1].
        """
        azimuths = np.radians(np.arange(89.0, -89.0, -azimuth_step))
        pose = self._pose(frame) @ VELO_TO_CAM
        sensor = place_scanner(pose, azimuths, _BEAMS)
        surroundings = surfaces_near(self.street, sensor.origin[0])
        hits = cast_rays(sensor, surroundings)
        horizontal_range = 1 / np.maximum(hits.inverse_depth, 1e-6)
        rays = (sensor.rows[:, None] + sensor.columns) @ pose[:3, :3]
        points = rays * horizontal_range[..., None]
        reflectance = surroundings.colors[hits.surface].mean((-2, -1)).clip(0, 1)
        scan = np.concatenate([points, reflectance[..., None]], -1)
        return scan[horizontal_range < _SCAN_RANGE].astype(np.float32)

    def _place(self, frame: float, camera: int) -> Sensor:
        pose = self.camera_pose(frame, camera)
        return place_camera(pose, self.intrinsics, self.height, self.width)

    def _pose(self, frame: float) -> NDArray[np.float64]:
        """The pose (4, 4) of camera 0."""
        body = move(self.street, draw_motion(self.street), frame / FRAME_RATE)
        body[:3, :3] = body[:3, :3] @ VELO_TO_CAM[:3, :3].T
        return body
