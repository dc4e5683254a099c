"""Procedural grey textures of street materials, and their anti-aliased lookup.

Textures are periodic tiles in [0, 1]; a surface interpolates between a dark and a light colour with
them. They are stored as ripmaps, with power-of-two reductions along each axis separately, because
road and walls are mostly seen at grazing angles, foreshortened along one direction only.

Source: procedural noise as filtered white noise with a 1/f spectrum.
"""

from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

SIZE = 256  # texels of a tile along each axis
LEVEL_SIZES = SIZE >> np.arange(int(np.log2(SIZE)) + 1, dtype=np.int32)
LEVEL_STARTS = np.concatenate([[0], np.cumsum(LEVEL_SIZES + 1)[:-1]]).astype(np.int32)
STRIDE = int(LEVEL_SIZES.sum()) + len(LEVEL_SIZES)
_t, _s = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE  # t upwards or to the left, s along the surface


def noise(rng: Generator, slope: float = 1.0, stretch: float = 1.0) -> NDArray[np.float64]:
    """Returns periodic noise (SIZE, SIZE) in 0..1; smoother with `slope`, grains `stretch` long."""
    frequency = np.fft.fftfreq(SIZE, 1 / SIZE)
    radius = np.hypot(frequency[:, None], frequency[None] * stretch)
    radius[0, 0] = np.inf
    spectrum = np.fft.fft2(rng.standard_normal((SIZE, SIZE))) / np.maximum(radius, 1) ** slope
    values = np.fft.ifft2(spectrum).real
    return np.clip(0.5 + 0.22 * values / values.std(), 0, 1)


def _cells(rng: Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """Returns a grid of cells of random brightness, (SIZE, SIZE)."""
    values = rng.random((rows, columns))
    return values[(_t * rows).astype(int), (_s * columns).astype(int)]


def _inside(columns: int, rows: int, margin_s: float, margin_t: float) -> NDArray[np.bool_]:
    """Returns a mask (SIZE, SIZE) of the inside of grid cells, with relative margins."""
    s, t = _s * columns % 1, _t * rows % 1
    return (np.abs(s - 0.5) < 0.5 - margin_s) & (np.abs(t - 0.5) < 0.5 - margin_t)


def _road(rng: Generator) -> NDArray[np.float64]:
    """Draws asphalt with repairs, a dashed centre line and edge lines, (SIZE, SIZE)."""
    grey = 0.2 + 0.25 * noise(rng, 0.9) + 0.12 * noise(rng, 1.0, 0.2) + 0.1 * _cells(rng, 2, 5)
    dashed = (np.abs(_t - 0.5) < 0.009) & (_s < 0.45)
    edge = np.abs(np.abs(_t - 0.5) - 0.46) < 0.008
    return np.where(dashed | edge, 0.85 + 0.15 * noise(rng), grey)


def _slabs(rng: Generator) -> NDArray[np.float64]:
    """Draws slabs with joints, (SIZE, SIZE)."""
    grey = 0.4 + 0.35 * _cells(rng, 8, 12) + 0.25 * noise(rng, 0.8)
    return np.where(_inside(12, 8, 0.04, 0.04), grey, 0.2)


def _leaves(rng: Generator) -> NDArray[np.float64]:
    """Draws foliage, (SIZE, SIZE)."""
    return np.clip(1.6 * noise(rng, 0.75) - 0.3, 0, 1)


def _bricks(rng: Generator) -> NDArray[np.float64]:
    """Draws bricks with dark windows and light sills, (SIZE, SIZE)."""
    grey = 0.35 + 0.3 * _cells(rng, 64, 24) + 0.35 * noise(rng)
    return _windows(rng, grey, columns=3, rows=2)


def _plaster(rng: Generator) -> NDArray[np.float64]:
    """Draws plaster with windows, (SIZE, SIZE)."""
    grey = 0.35 + 0.65 * noise(rng, 1.1, 3.0)
    return _windows(rng, grey, columns=4, rows=3)


def _windows(
    rng: Generator, wall: NDArray[np.float64], columns: int, rows: int
) -> NDArray[np.float64]:
    """Draws framed windows into a wall (SIZE, SIZE); some places stay wall."""
    glass = 0.35 * _cells(rng, rows, columns) + 0.25 * _cells(rng, 4 * rows, 2 * columns)
    built = _cells(rng, rows, columns) > 0.2
    framed = np.where(_inside(columns, rows, 0.22, 0.18), 0.95, wall)
    return np.where(built, np.where(_inside(columns, rows, 0.25, 0.21), glass, framed), wall)


def _planks(rng: Generator) -> NDArray[np.float64]:
    """Draws vertical stripes, as of boards, containers or bark, (SIZE, SIZE)."""
    grey = 0.25 + 0.45 * _cells(rng, 1, 20) + 0.3 * noise(rng, 0.9, 0.3)
    return np.where(_inside(20, 1, 0.08, 0.0), grey, 0.1)


def _car_side(rng: Generator) -> NDArray[np.float64]:
    """Draws the side of a car with doors, sill and wheels, (SIZE, SIZE)."""
    grey = 0.7 + 0.25 * noise(rng, 1.3) - 0.25 * (_t < 0.25)
    grey = np.where(np.abs(np.abs(_s - 0.5) - 0.16) < 0.006, 0.25, grey)
    wheel = np.hypot((np.abs(_s - 0.5) - 0.31) / 0.085, (_t - 0.12) / 0.38)
    return np.where(wheel < 0.5, 0.6 * noise(rng), np.where(wheel < 1, 0.03, grey))


def _car_end(rng: Generator) -> NDArray[np.float64]:
    """Draws the front or back of a car with lights, plate and bumper, (SIZE, SIZE)."""
    grey = 0.6 + 0.25 * noise(rng, 1.2) - 0.35 * (np.abs(_t - 0.2) < 0.12)
    lights = (np.abs(np.abs(_s - 0.5) - 0.38) < 0.08) & (np.abs(_t - 0.65) < 0.13)
    plate = (np.abs(_s - 0.5) < 0.13) & (np.abs(_t - 0.42) < 0.08)
    return np.where(lights | plate, 1.0, grey)


def _glass(rng: Generator) -> NDArray[np.float64]:
    """Draws a cabin with dark windows between light pillars, (SIZE, SIZE)."""
    return np.where(_inside(2, 1, 0.07, 0.1), 0.35 * noise(rng, 1.3), 0.7 + 0.2 * noise(rng))


def _clouds(rng: Generator) -> NDArray[np.float64]:
    """Draws clouds, (SIZE, SIZE)."""
    return np.clip(1.6 * noise(rng, 1.5, 0.6) - 0.3, 0, 1)


TEXTURES = {
    "road": _road,
    "slabs": _slabs,
    "leaves": _leaves,
    "bricks": _bricks,
    "plaster": _plaster,
    "planks": _planks,
    "car_side": _car_side,
    "car_end": _car_end,
    "glass": _glass,
    "grain": noise,
    "clouds": _clouds,
}
MATERIALS = {name: number for number, name in enumerate(TEXTURES)}


@lru_cache(maxsize=2)
def build_ripmaps(seed: int, drive: int) -> NDArray[np.float32]:
    """Builds the textures of all materials for the drive with this number, in this seed's world.

    Returns:
        (num_materials * STRIDE * STRIDE,) values in [0, 1]: one ripmap after the other, rows along
        t and columns along s, each holding its levels side by side.
    """
    rng = np.random.default_rng([seed, drive, 3])
    tiles = np.stack([paint(rng) for paint in TEXTURES.values()])
    return _reduce_along(_reduce_along(tiles, 1), 2).astype(np.float32).ravel()


def _reduce_along(tiles: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Concatenates all halvings (M, n) of tiles; each level repeats its first texel."""
    levels = []
    for size in LEVEL_SIZES:
        levels.append(np.take(tiles, np.arange(size + 1) % size, axis))
        if size > 1:
            pairs = np.arange(0, size, 2)
            tiles = (np.take(tiles, pairs, axis) + np.take(tiles, pairs + 1, axis)) / 2
    return np.concatenate(levels, axis)


def sample(
    ripmaps: NDArray[np.float32],
    material: NDArray[np.int32],
    place: NDArray[np.float32],
    footprint: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Samples textures with linear interpolation between texels and between levels on both axes.

    Args:
        ripmaps: textures from `build_ripmaps`.
        material: (N,) numbers of MATERIALS.
        place: (2, N) s and t on the surface, in tiles.
        footprint: (2, N) extent of a pixel along s and t, in tiles.

    Returns:
        (N,) grey in [0, 1].
    """
    columns = _taps(place[0], footprint[0])
    grey = np.zeros_like(place[0])
    for row, row_weight in _taps(place[1], footprint[1]):
        start = material * (STRIDE * STRIDE) + row * STRIDE
        line = np.zeros_like(grey)
        for column, column_weight in columns:
            line += column_weight * ripmaps.take(start + column)
        grey += row_weight * line
    return grey


def _taps(
    place: NDArray[np.float32], footprint: NDArray[np.float32]
) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Returns four texels and weights per pixel, (M,) each: two neighbours in two levels."""
    last = len(LEVEL_SIZES) - 1
    level = np.clip(np.log2(np.maximum(footprint * SIZE, 1)), 0, last - 1e-3)
    lower = level.astype(np.int32)
    blend = level - lower
    taps = []
    for number, weight in ((lower, 1 - blend), (lower + 1, blend)):
        size, start = LEVEL_SIZES.take(number), LEVEL_STARTS.take(number)
        texel = place * size.astype(np.float32) - 0.5
        floor = np.floor(texel)
        right = weight * (texel - floor)
        index = start + (floor.astype(np.int32) & (size - 1))
        taps += [(index, weight - right), (index + 1, right)]
    return taps
