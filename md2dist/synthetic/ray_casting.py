"""Exact ray casting of rectangles, for cameras and spinning scanners.

A sensor's rays form a grid: the ray of cell (r, c) is rows[r] + columns[c]. This holds for a
pinhole camera and for a scanner, so every linear function of the ray is an outer sum. A ray d from
o meets a rectangle where o + z d = origin + s edge_0 + t edge_1, that is, where
(s, t, 1) / z = inverse([edge_0, edge_1, origin - o]) d.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from md2dist.synthetic.boxes import Rectangles

_NEAR = 0.01  # m ahead: the near plane; all surfaces are beyond it


class Sensor(NamedTuple):
    """Origins and directions of rays."""

    axes: NDArray[np.float64]  # (3, 3) rows: right, down, forward in the world
    origin: NDArray[np.float64]  # (3,) m, world
    rows: NDArray[np.float64]  # (H, 3) world
    columns: NDArray[np.float64]  # (W, 3) world
    right_slopes: NDArray[np.float64]  # (W,) right / forward of each column's rays, ascending
    down_slopes: NDArray[np.float64] | None  # (H,) down / forward; None where columns differ


class Hits(NamedTuple):
    """First surface that each ray hits, in the units of the ray."""

    inverse_depth: NDArray[np.float64]  # (H, W) 1 / z of the formula above; 0: no hit
    surface: NDArray[np.int32]  # (H, W) number of the rectangle; 0 without a hit
    s_over_z: NDArray[np.float64]  # (H, W) position along its edge 0, in m, divided by z
    t_over_z: NDArray[np.float64]  # (H, W) position along its edge 1, in m, divided by z
    maps: NDArray[np.floating]  # (N, 3, 3) ray -> (s, t, 1) / z, for each rectangle


def place_camera(
    pose: NDArray[np.float64], K: NDArray[np.float64], height: int, width: int
) -> Sensor:
    """Returns the rays through all pixel centres; their z is the camera's depth.

    Args:
        pose: (4, 4) camera to world.
        K: (3, 3) intrinsics in pixels without skew, pixel centres at integers.
        height: rows of the image.
        width: columns of the image.
    """
    right = (np.arange(width) - K[0, 2]) / K[0, 0]
    down = (np.arange(height) - K[1, 2]) / K[1, 1]
    axes = pose[:3, :3].T
    rows = down[:, None] * axes[1] + axes[2]
    return Sensor(axes, pose[:3, 3], rows, right[:, None] * axes[0], right, down)


def place_scanner(
    pose: NDArray[np.float64], azimuths: NDArray[np.float64], elevations: NDArray[np.float64]
) -> Sensor:
    """Returns the rays of a spinning scanner; their z is the horizontal range.

    Args:
        pose: (4, 4) scanner to world; the scanner's axes are forward, left, up.
        azimuths: (W,) rad to the left, descending, less than a right angle from forward.
        elevations: (H,) rad upwards.
    """
    forward, left, up = pose[:3, :3].T
    columns = np.cos(azimuths)[:, None] * forward + np.sin(azimuths)[:, None] * left
    rows = np.tan(elevations)[:, None] * up
    axes = np.stack([-left, -up, forward])
    return Sensor(axes, pose[:3, 3], rows, columns, -np.tan(azimuths), None)


def cast_rays(sensor: Sensor, rectangles: Rectangles) -> Hits:
    """Finds the first of N rectangles that each of the (H, W) rays meets from its front side."""
    offset = rectangles.origin - sensor.origin
    normal = np.cross(rectangles.edges[:, 0], rectangles.edges[:, 1])
    faces_sensor = (normal * offset).sum(-1) < -1e-6
    frames = np.concatenate([rectangles.edges, offset[:, None]], 1).swapaxes(1, 2)
    frames[~faces_sensor] = np.eye(3)
    maps = np.linalg.inv(frames)
    row_parts, column_parts = maps @ sensor.rows.T, maps @ sensor.columns.T
    shape = len(sensor.rows), len(sensor.columns)
    nearest, s_over_z, t_over_z = np.zeros((3, *shape))
    surface = np.zeros(shape, np.int32)
    for number, (top, bottom, left, right) in enumerate(_bound(sensor, rectangles)):
        if not faces_sensor[number] or top >= bottom or left >= right:
            continue
        window = np.s_[top:bottom, left:right]
        row_part = row_parts[number, :, top:bottom, None]
        s, t, inverse = row_part + column_parts[number, :, None, left:right]
        length, breadth = rectangles.size[number]
        hit = (inverse > nearest[window]) & (s >= 0) & (t >= 0)
        hit &= (s <= length * inverse) & (t <= breadth * inverse)
        np.copyto(nearest[window], inverse, where=hit)
        np.copyto(surface[window], number, where=hit)
        np.copyto(s_over_z[window], s, where=hit)
        np.copyto(t_over_z[window], t, where=hit)
    return Hits(nearest, surface, s_over_z, t_over_z, maps)


def _bound(sensor: Sensor, rectangles: Rectangles) -> NDArray[np.int64]:
    """Returns the cells that can hit each rectangle, (N, 4): row start/stop, column start/stop."""
    s, t = rectangles.edges.swapaxes(0, 1) * rectangles.size.T[..., None]
    corners = np.stack([0 * s, s, s + t, t], 1) + rectangles.origin[:, None] - sensor.origin
    start = corners @ sensor.axes.T
    end = np.roll(start, -1, 1)
    # An edge that crosses the near plane is clipped there.
    fall = start[..., 2] - end[..., 2]
    share = np.divide(start[..., 2] - _NEAR, fall, out=np.zeros_like(fall), where=fall != 0)
    leaving = start + np.clip(share, 0, 1)[..., None] * (end - start)
    points = np.concatenate([start, leaving], 1)
    ahead = points[..., 2] > 0.999 * _NEAR
    slopes = points[..., :2] / np.where(ahead, points[..., 2], 1)[..., None]
    low = np.where(ahead[..., None], slopes, np.inf).min(1)
    high = np.where(ahead[..., None], slopes, -np.inf).max(1)
    bounds = np.zeros((len(start), 4), np.int64)
    bounds[:, 1] = len(sensor.rows)
    if sensor.down_slopes is not None:
        bounds[:, 0] = np.searchsorted(sensor.down_slopes, low[:, 1])
        bounds[:, 1] = np.searchsorted(sensor.down_slopes, high[:, 1], "right")
    bounds[:, 2] = np.searchsorted(sensor.right_slopes, low[:, 0])
    bounds[:, 3] = np.searchsorted(sensor.right_slopes, high[:, 0], "right")
    return bounds
