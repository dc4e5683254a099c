"""Rendering of a synthetic camera: textures, light, haze and sky."""

import numpy as np
from numpy.typing import NDArray

from md2dist.synthetic.boxes import Rectangles
from md2dist.synthetic.ray_casting import Hits, Sensor, cast_rays
from md2dist.synthetic.scenery import surfaces_near
from md2dist.synthetic.street import NUM_ZONES, Street
from md2dist.synthetic.texture import MATERIALS, sample

_GRAIN_PER_TILE = np.float32(3.7)  # no simple ratio, so that texture times grain rarely repeats
_PIXELS_AT_ONCE = 2**16  # fits into a processor's cache


def render(
    street: Street, ripmaps: NDArray[np.float32], camera: Sensor
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Renders the image of a camera.

    Args:
        street: the street of the drive.
        ripmaps: textures from `build_ripmaps`.
        camera: rays of (H, W) pixels.

    Returns:
        RGB (H, W, 3) and depth (H, W) in m, infinite in the sky.
    """
    rectangles = surfaces_near(street, camera.origin[0])
    hits = cast_rays(camera, rectangles)
    depth = measure_depth(hits)
    image = np.empty((depth.size, 3), np.float32)
    sky = np.flatnonzero(np.isinf(depth))
    image[sky] = _paint_sky(street, ripmaps, camera, sky)
    seen = np.flatnonzero(np.isfinite(depth))
    for part in np.array_split(seen, len(seen) // _PIXELS_AT_ONCE + 1):
        haze = np.exp(-street.haze * depth.flat[part]).astype(np.float32)[:, None]
        surfaces = _paint_surfaces(street, ripmaps, camera, rectangles, hits, part)
        image[part] = haze * surfaces + (1 - haze) * street.sky_colors[0].astype(np.float32)
    pixels = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return pixels.reshape(*depth.shape, 3), depth


def measure_depth(hits: Hits) -> NDArray[np.float64]:
    """Returns the depth (H, W) in m of all hits, infinite without a hit."""
    with np.errstate(divide="ignore"):
        return 1 / hits.inverse_depth


def _paint_surfaces(
    street: Street,
    ripmaps: NDArray[np.float32],
    camera: Sensor,
    rectangles: Rectangles,
    hits: Hits,
    seen: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Returns the colours (M, 3) of the M pixels `seen`, (M,) positions in the image."""
    surface = hits.surface.flat[seen]
    depth = 1 / hits.inverse_depth.flat[seen]
    place = depth * np.stack([hits.s_over_z.flat[seen], hits.t_over_z.flat[seen]])
    footprint = depth * _measure_steps(camera, hits.maps, surface, place)
    _divide_ground(street, rectangles, surface, place)
    tile = rectangles.tile.T[:, surface]
    place = place / tile + rectangles.shift.T[:, surface]
    place = (place - np.floor(place)).astype(np.float32)
    footprint = (footprint / tile).astype(np.float32)
    grey = sample(ripmaps, rectangles.material[surface], place, footprint)
    grain_everywhere = np.full_like(surface, MATERIALS["grain"])
    grain = sample(ripmaps, grain_everywhere, place * _GRAIN_PER_TILE, footprint * _GRAIN_PER_TILE)
    dark, light = rectangles.colors.astype(np.float32).swapaxes(0, 1)
    colors = dark[surface] + grey[:, None] * (light - dark)[surface]
    return colors * (0.7 + 0.6 * grain)[:, None]


def _measure_steps(
    camera: Sensor,
    maps: NDArray[np.floating],
    surface: NDArray[np.int32],
    place: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Returns the change (2, M) of surface coordinates per pixel, divided by depth, in 1/pixel."""
    # With (a, b, c) = (s, t, 1) / z, linear in the ray: s = a / c, hence ds = z (da - s dc).
    steps = []
    for rays in (camera.columns, camera.rows):
        step = (maps @ (rays[1] - rays[0])).T[:, surface]
        steps.append(np.abs(step[:2] - place * step[2]))
    return np.maximum(*steps)


def _divide_ground(
    street: Street,
    rectangles: Rectangles,
    surface: NDArray[np.int32],
    place: NDArray[np.float64],
) -> None:
    """Sets the surface (M,) of ground pixels to their zone, and t of (2, M) to that across."""
    ground = np.flatnonzero(surface < NUM_ZONES)
    x, y = place[:, ground] + rectangles.origin[0, :2, None]
    lateral = y - street.center(x)
    surface[ground] = np.searchsorted([street.kerb, street.verge], np.abs(lateral))
    place[1, ground] = lateral


def _paint_sky(
    street: Street, ripmaps: NDArray[np.float32], camera: Sensor, sky: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Returns the colours (M, 3) of the M pixels `sky`: a gradient with clouds at infinity."""
    row, column = np.divmod(sky, len(camera.columns))
    x, y, z = (camera.rows[row] + camera.columns[column]).T
    elevation = z / np.hypot(x, y)
    place = np.stack([np.arctan2(y, x) / np.pi, elevation])
    place = (place - np.floor(place)).astype(np.float32)
    step = np.linalg.norm(camera.columns[1] - camera.columns[0]) / np.pi
    material = np.full(len(sky), MATERIALS["clouds"], np.int32)
    clouds = sample(ripmaps, material, place, np.full_like(place, step))[:, None]
    horizon, zenith = street.sky_colors.astype(np.float32)
    height = np.clip(3 * elevation, 0, 1).astype(np.float32)[:, None]
    blue = horizon + height * (zenith - horizon)
    return blue + 0.5 * clouds * height * (1 - blue)
