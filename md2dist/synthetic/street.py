"""A synthetic street: course, ground and light, constant along a drive."""

from colorsys import hsv_to_rgb
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from md2dist.synthetic.boxes import Rectangles
from md2dist.synthetic.texture import MATERIALS

Range = tuple[float, float]

_ZONES = ("road", "slabs", "leaves")  # of the ground, from the middle outwards
NUM_ZONES = len(_ZONES)
_GROUND_START = -1e4  # m, the corner of the ground in x and y


class Street(NamedTuple):
    """Properties that are constant along a drive."""

    seed: int
    drive: int
    bends: NDArray[np.float64]  # (3, num_bends): amplitude in m, wave number in rad/m, phase
    kerb: float  # m from the centre line to the edge of the road
    verge: float  # m from the centre line to the outer edge of the pavement
    setback: float  # m from the pavement to the nearest houses
    density: float  # 0..1, of objects along the street
    ground: Rectangles  # NUM_ZONES copies of the plane z = 0, one with each zone's texture
    sun: NDArray[np.float64]  # (3,) unit vector to the sun
    sun_share: float  # share of direct sunlight, 0..1; the rest is ambient
    sky_colors: NDArray[np.float64]  # (2, 3) RGB at the horizon and at the zenith
    haze: float  # 1/m, rate at which colours approach the horizon's

    def center(self, x: ArrayLike) -> NDArray[np.float64]:
        """Returns y in m of the centre line at x in m, of any shape."""
        amplitude, wave, phase = self.bends
        return (amplitude * np.sin(wave * np.asarray(x)[..., None] + phase)).sum(-1)

    def heading(self, x: ArrayLike) -> NDArray[np.float64]:
        """Returns the direction of the centre line at x (any shape), in rad to the left."""
        amplitude, wave, phase = self.bends
        slope = amplitude * wave * np.cos(wave * np.asarray(x)[..., None] + phase)
        return np.arctan(slope.sum(-1))

    def light(self, rectangles: Rectangles) -> Rectangles:
        """Returns the rectangles with their colours lit by the sun and the sky."""
        normal = np.cross(rectangles.edges[:, 0], rectangles.edges[:, 1])
        sunshine = self.sun_share * np.clip(normal @ self.sun, 0, None)
        brightness = 0.85 * (1 - self.sun_share) + 1.3 * sunshine
        return rectangles._replace(colors=rectangles.colors * brightness[:, None, None])


@lru_cache(maxsize=4)
def build_street(seed: int, drive: int) -> Street:
    """Draws the street of the drive with this number, in the world of this seed."""
    rng = np.random.default_rng([seed, drive])
    kerb, verge = rng.uniform(4.0, 5.2), rng.uniform(1.5, 3.0)
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.1)
    sky = np.array(hsv_to_rgb(rng.uniform(0.54, 0.62), rng.uniform(0.1, 0.55), 0.95))
    street = Street(
        seed=seed,
        drive=drive,
        bends=np.array(
            [
                rng.uniform(0.8, 3.5, 2),
                2 * np.pi / rng.uniform(90, 200, 2),
                rng.uniform(0, 2 * np.pi, 2),
            ]
        ),
        kerb=kerb,
        verge=kerb + verge,
        setback=rng.uniform(0, 4),
        density=rng.uniform(0.5, 1.0),
        ground=_lay_ground(rng, kerb),
        sun=np.array(
            [
                np.cos(azimuth) * np.cos(elevation),
                np.sin(azimuth) * np.cos(elevation),
                np.sin(elevation),
            ]
        ),
        sun_share=rng.uniform(0.2, 0.6),
        sky_colors=np.stack([0.7 + 0.3 * sky, sky]) * rng.uniform(0.85, 1.0),
        haze=rng.uniform(0.001, 0.004),
    )
    return street._replace(ground=street.light(street.ground))


def draw_colors(
    rng: Generator,
    hues: Range,
    saturation: Range,
    value: Range,
) -> NDArray[np.float64]:
    """Draws RGB (2, 3) of a dark and a light tone of one hue.

    Args:
        rng: random generator.
        hues: range of the hue, in turns of the colour circle.
        saturation: range of the saturation of the dark tone.
        value: brightness of the dark and of the light tone.
    """
    hue, tint = rng.uniform(*hues) % 1, rng.uniform(*saturation)
    tones = [(hue, tint, value[0]), (hue, 0.7 * tint, value[1])]
    return np.array([hsv_to_rgb(*tone) for tone in tones])


def _lay_ground(rng: Generator, kerb: float) -> Rectangles:
    """Returns the plane z = 0 as road (one tile wide, centred at 0), as pavement and as land."""
    asphalt = np.array([[0.06, 0.06, 0.07], [1.0, 1.0, 0.98]]) * rng.uniform(0.85, 1.1)
    pavement = draw_colors(rng, (0.0, 0.15), (0.0, 0.25), (0.1, rng.uniform(0.6, 0.9)))
    land = draw_colors(rng, (0.05, 0.3), (0.2, 0.6), (0.12, rng.uniform(0.5, 0.8)))
    return Rectangles(
        origin=np.repeat([[_GROUND_START, _GROUND_START, 0.0]], NUM_ZONES, 0),
        edges=np.repeat([np.eye(3)[:2]], NUM_ZONES, 0),
        size=np.full((NUM_ZONES, 2), [1e6, -2 * _GROUND_START]),
        tile=np.array([[9.0, 2 * kerb], [5.0, 5.0], [7.0, 7.0]]),
        shift=np.array([[0.0, 0.5], *rng.random((2, 2))]),
        material=np.array([MATERIALS[zone] for zone in _ZONES], np.int32),
        colors=np.stack([asphalt, pavement, land]),
    )
