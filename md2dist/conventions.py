"""Conventions of the published recipe and of KITTI's files, each defined only here.

Source: Godard et al., ICCV 2019, and the development kit of KITTI's depth benchmark.
"""

from typing import Literal

STEREO_BASELINE = 0.1  # distance between the two cameras, in the unit of a stereo model's depth
STEREO_FACTOR = 5.4  # m per unit of that depth: KITTI's nominal 0.54 m / STEREO_BASELINE
FOCAL_LENGTHS = (0.58, 1.92)  # fx in image widths, fy in image heights; principal point: the centre
DEPTH_UNITS_PER_METRE = 256  # in 16-bit depth PNGs, where 0 means unknown


def default_scaling(use_stereo: bool) -> float | Literal["median"]:
    """Returns the default scaling of predicted depth to metres.

    Args:
        use_stereo: whether the model was trained with stereo pairs, which fix the scale.

    Returns:
        A factor, or `median`: per image, the ratio of the medians of true and predicted depth.
    """
    return STEREO_FACTOR if use_stereo else "median"
