"""Motion of a car along a synthetic street."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from md2dist.synthetic.street import Street

_HEIGHT = 1.65  # m, camera 0 above the ground


class Motion(NamedTuple):
    """Driving style: everything but the street that differs between drives."""

    speed: float  # m/s, the mean along x
    swing: float  # m, amplitude of the deviation from that mean
    lane: float  # m to the left of the centre line
    weave: float  # m, amplitude of the deviation from the middle of the lane
    phases: NDArray[np.float64]  # (5,) rad: of swing, weave, yaw, pitch, roll


def draw_motion(street: Street) -> Motion:
    """Draws a driving style: in the right lane, at 0.6 to 0.9 m per frame."""
    rng = np.random.default_rng([street.seed, street.drive, 2])
    return Motion(
        speed=rng.uniform(6.0, 8.5),
        swing=rng.uniform(0.5, 1.5),
        lane=-rng.uniform(0.15, 0.35) * street.kerb,
        weave=rng.uniform(0.1, 0.35),
        phases=rng.uniform(0, 2 * np.pi, 5),
    )


def move(street: Street, motion: Motion, time: float) -> NDArray[np.float64]:
    """Returns the pose (4, 4) after `time` seconds: body (x forward, y left, z up) to world, in m.

    The origin of the body is at camera 0.
    """
    swing, weave, yaw, pitch, roll = motion.phases
    x = motion.speed * time + motion.swing * (np.sin(0.5 * time + swing) - np.sin(swing))
    y = street.center(x) + motion.lane + motion.weave * np.sin(x / 9 + weave)
    z = _HEIGHT + 0.02 * np.sin(5.3 * time + pitch)
    slope = np.tan(street.heading(x)) + motion.weave / 9 * np.cos(x / 9 + weave)
    pose = np.eye(4)
    pose[:3, :3] = rotate(
        yaw=np.arctan(slope) + 0.006 * np.sin(2.3 * time + yaw),
        pitch=0.008 * np.sin(4.1 * time + pitch),
        roll=0.006 * np.sin(3.1 * time + roll),
    )
    pose[:3, 3] = x, y, z
    return pose


def rotate(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Returns Rz(yaw) Ry(pitch) Rx(roll) (3, 3), the order of KITTI's OXTS records; in rad."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return about_z @ about_y @ about_x
