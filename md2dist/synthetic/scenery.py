"""Objects along a synthetic street.

The street is made of blocks of 50 m, each a pure function of (seed, drive, block): it has no end,
and what a frame shows does not depend on how many frames are rendered.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from md2dist.synthetic.boxes import Appearance, Box, Rectangles, cut_faces
from md2dist.synthetic.street import Street, build_street, draw_colors

_BLOCK_LENGTH = 50.0  # m
_BLOCKS_IN_SIGHT = range(-1, 5)  # relative to the current block
_FIRST_BLOCK = -1000  # offset of block numbers in seeds, which cannot be negative
_BRIGHT = (0.0, 1.0)  # all hues
_EARTHEN = (-0.04, 0.17)  # hues of brick, sand and plaster


def surfaces_near(street: Street, x: float) -> Rectangles:
    """Returns all surfaces near x: the ground, once for each of its zones, then the objects."""
    here = int(x // _BLOCK_LENGTH)
    blocks = [_build_block(street.seed, street.drive, here + i) for i in _BLOCKS_IN_SIGHT]
    return Rectangles(*map(np.concatenate, zip(street.ground, *blocks, strict=True)))


@lru_cache(maxsize=16)
def _build_block(seed: int, drive: int, number: int) -> Rectangles:
    street = build_street(seed, drive)
    rng = np.random.default_rng([seed, drive, 1, number - _FIRST_BLOCK])
    start = number * _BLOCK_LENGTH
    boxes: list[Box] = []
    for side in (-1, 1):
        boxes += _draw_fronts(rng, street, start, side)
        boxes += _draw_furniture(rng, street, start, side)
        boxes += _draw_vehicles(rng, street, start, side)
    if rng.random() < 0.12:  # a pedestrian bridge
        size = (rng.uniform(1, 2.5), 2 * street.verge, rng.uniform(1.2, 2.2))
        appearance = _cover(rng, "planks", 4.0, draw_colors(rng, _BRIGHT, (0.0, 0.4), (0.2, 0.9)))
        boxes.append(_stand(street, start + rng.uniform(5, 45), 0.0, 5.0, 0.0, size, appearance))
    return street.light(cut_faces(boxes))


def _stand(
    street: Street,
    x: float,
    lateral: float,
    z: float,
    turn: float,
    size: tuple[float, float, float],
    appearance: Appearance,
) -> Box:
    """Returns a box at x, `lateral` m left of the centre line and rotated by `turn` rad to it."""
    y = float(street.center(x)) + lateral
    return Box((x, y, z), float(street.heading(x)) + turn, size, appearance)


def _cover(rng: Generator, material: str, tile: float, colors: NDArray[np.float64]) -> Appearance:
    """Covers all faces with one material, in colours (2, 3)."""
    return Appearance(material, material, material, colors, tile, rng.random())


def _draw_leaves(rng: Generator) -> Appearance:
    colors = draw_colors(rng, (0.19, 0.36), (0.4, 0.9), (0.06, rng.uniform(0.45, 0.8)))
    return _cover(rng, "leaves", rng.uniform(2, 3.5), colors)


def _draw_fronts(rng: Generator, street: Street, start: float, side: int) -> Iterator[Box]:
    """Draws houses, hedges and sheds in a row, with gaps."""
    x, end = start + rng.uniform(0, 3), start + _BLOCK_LENGTH
    while x < end - 4:
        length = min(rng.uniform(6, 18), end - x)
        kind = rng.random()
        if kind < 0.65:
            depth, height = rng.uniform(6, 12), rng.uniform(4, 14)
            colors = draw_colors(rng, _EARTHEN, (0.0, 0.6), (0.15, rng.uniform(0.7, 1.1)))
            appearance = _cover(rng, rng.choice(["bricks", "plaster"]), rng.uniform(8, 13), colors)
        elif kind < 0.85:
            depth, height, appearance = 1.2, rng.uniform(0.8, 3.0), _draw_leaves(rng)
        else:
            depth, height = 3.0, rng.uniform(1.8, 3.5)
            appearance = _cover(
                rng, "planks", 5.0, draw_colors(rng, _BRIGHT, (0.0, 0.6), (0.15, 0.9))
            )
        lateral = street.verge + street.setback + rng.uniform(0, 5) + depth / 2
        size, turn = (length, depth, height), rng.uniform(-0.04, 0.04)
        yield _stand(street, x + length / 2, side * lateral, 0.0, turn, size, appearance)
        x += length + (rng.uniform(2, 9) if rng.random() < 0.4 else 0.2)


def _draw_furniture(rng: Generator, street: Street, start: float, side: int) -> Iterator[Box]:
    """Draws lamps, trees, signs and bins on the pavement."""
    x = start + rng.uniform(1, 8)
    while x < start + _BLOCK_LENGTH:
        kind, turn = rng.random(), rng.uniform(-0.8, 0.8)
        lateral = side * rng.uniform(street.kerb + 0.4, street.verge - 0.4)
        colors = draw_colors(rng, _BRIGHT, (0.0, 0.5), (0.15, 0.9))
        planks = _cover(rng, "planks", rng.uniform(0.8, 1.5), colors)
        if kind < 0.35:
            yield _stand(street, x, lateral, 0, turn, (0.16, 0.16, rng.uniform(4, 8)), planks)
        elif kind < 0.6:
            trunk, crown, leaves = rng.uniform(0.25, 0.45), rng.uniform(1.8, 3.0), _draw_leaves(rng)
            bark = _cover(rng, "planks", 1.0, draw_colors(rng, _EARTHEN, (0.0, 0.5), (0.06, 0.5)))
            yield _stand(street, x, lateral, 0, turn, (trunk, trunk, 3), bark)
            for storey in range(3):
                width = crown * (1 - 0.25 * storey)
                z, size = 2.3 + 1.1 * storey, (width, width, 1.4)
                yield _stand(street, x, lateral, z, turn + 0.5 * storey, size, leaves)
        elif kind < 0.8:
            panel = Appearance("car_end", "car_end", "grain", colors)
            yield _stand(street, x, lateral, 0, turn / 4, (0.08, 0.08, 2.6), planks)
            yield _stand(street, x - 0.08, lateral, 1.8, turn / 4, (0.05, 0.7, 0.7), panel)
        else:
            size = (rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.0), rng.uniform(0.7, 1.4))
            yield _stand(street, x, lateral, 0, turn, size, planks)
        x += rng.uniform(3, 9) / street.density


def _draw_vehicles(rng: Generator, street: Street, start: float, side: int) -> Iterator[Box]:
    """Draws cars and vans, parked half on the pavement."""
    x = start + rng.uniform(2, 10)
    while x < start + _BLOCK_LENGTH:
        length, width = rng.uniform(3.7, 4.7), rng.uniform(1.65, 1.85)
        lateral, turn = side * (street.kerb - width / 2 + 0.5), rng.uniform(-0.03, 0.03)
        colors = draw_colors(rng, _BRIGHT, (0.0, 0.9), (0.1, rng.uniform(0.35, 1.1)))
        body = Appearance("car_side", "car_end", "grain", colors)
        if rng.random() < 0.75:
            size, roof = (
                (0.55 * length, 0.88 * width, 0.55),
                Appearance("glass", "glass", "grain", colors),
            )
            yield _stand(street, x, lateral, 0.15, turn, (length, width, 0.75), body)
            yield _stand(street, x - 0.1 * length, lateral, 0.9, turn, size, roof)
        else:
            load = Appearance("planks", "glass", "grain", colors)
            size = (length, width, rng.uniform(0.9, 1.8))
            yield _stand(street, x, lateral, 0.15, turn, (length, width, 0.9), body)
            yield _stand(street, x, lateral, 1.05, turn, size, load)
        x += length + rng.uniform(1.5, 14) / street.density
