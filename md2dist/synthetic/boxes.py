"""Boxes of the synthetic world, and the textured rectangles of which they consist.

World axes: x along the street, y to the left, z up, in metres; the ground is z = 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from md2dist.synthetic.texture import MATERIALS


class Rectangles(NamedTuple):
    """Textured rectangles: a point is origin + s edge 0 + t edge 1, the front edge 0 x edge 1."""

    origin: NDArray[np.float64]  # (N, 3) m, where s = t = 0
    edges: NDArray[np.float64]  # (N, 2, 3) unit vectors along s and t
    size: NDArray[np.float64]  # (N, 2) m along s and t
    tile: NDArray[np.float64]  # (N, 2) m of s and t per tile of texture
    shift: NDArray[np.float64]  # (N, 2) offset of the texture, in tiles
    material: NDArray[np.int32]  # (N,) numbers of MATERIALS
    colors: NDArray[np.float64]  # (N, 2, 3) RGB of grey 0 and of grey 1


class Appearance(NamedTuple):
    """Materials and colours of a box."""

    side: str  # material of the two faces along the heading
    end: str  # of the front and the back
    top: str  # of the top and the bottom
    colors: NDArray[np.float64]  # (2, 3) RGB of grey 0 and of grey 1
    tile: float = 0.0  # m per tile of texture; 0: the texture fits the face
    shift: float = 0.0  # offset of the texture, in tiles


class Box(NamedTuple):
    """An upright box."""

    base: tuple[float, float, float]  # m, the middle of its bottom
    heading: float  # rad from x to the left
    size: tuple[float, float, float]  # m: length along the heading, width, height
    appearance: Appearance


# The six faces of a box of edges 2 around the origin: front, back, left, right, top, bottom.
_CORNERS = np.array(
    [[1, -1, -1], [-1, 1, -1], [1, 1, -1], [-1, -1, -1], [-1, -1, 1], [-1, -1, -1]], float
)
_X, _Y, _Z = np.eye(3)
_EDGES = np.array([[_Y, _Z], [-_Y, _Z], [-_X, _Z], [_X, _Z], [_X, _Y], [_Y, _X]])


def cut_faces(boxes: Sequence[Box]) -> Rectangles:
    """Returns the faces of boxes, six for each, fronts outwards, colours without lighting."""
    heading = np.array([box.heading for box in boxes])
    zero, one = np.zeros_like(heading), np.ones_like(heading)
    cosine, sine = np.cos(heading), np.sin(heading)
    rotation = np.array([[cosine, -sine, zero], [sine, cosine, zero], [zero, zero, one]])
    extent = np.array([box.size for box in boxes])
    middle = np.array([box.base for box in boxes]) + extent * _Z / 2
    corners = np.einsum("ijn,fnj->nfi", rotation, _CORNERS[:, None] * extent / 2)
    size = np.einsum("fkj,nj->nfk", np.abs(_EDGES), extent)
    appearances = [box.appearance for box in boxes]
    tile = np.array([appearance.tile for appearance in appearances])[:, None, None]
    materials = [
        MATERIALS[name]
        for appearance in appearances
        for name in (
            appearance.end,
            appearance.end,
            appearance.side,
            appearance.side,
            appearance.top,
            appearance.top,
        )
    ]
    return Rectangles(
        origin=(middle[:, None] + corners).reshape(-1, 3),
        edges=np.einsum("ijn,fkj->nfki", rotation, _EDGES).reshape(-1, 2, 3),
        size=size.reshape(-1, 2),
        tile=np.where(tile > 0, tile, size).reshape(-1, 2),
        shift=np.repeat([[appearance.shift, 0.0] for appearance in appearances], 6, 0),
        material=np.array(materials, np.int32),
        colors=np.repeat([appearance.colors for appearance in appearances], 6, 0),
    )
