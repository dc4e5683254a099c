"""Conventions of the published recipe and of KITTI's files, each decided here and nowhere else.

Source: Godard et al., ICCV 2019, and the development kit of KITTI's depth benchmark.
"""

from typing import Literal

STEREO_BASELINE = 0.1  # distance between the two cameras, in the unit of a stereo model's depth
STEREO_FACTOR = 5.4  # m per unit of that depth: KITTI's nominal baseline of 0.54 m over the above
FOCAL_LENGTHS = (0.58, 1.92)  # fx in image widths, fy in image heights; principal point: the centre
DEPTH_UNITS_PER_METRE = 256  # of 16-bit depth PNGs, in which 0 means unknown


def default_scaling(use_stereo: bool) -> float | Literal["median"]:
    """Returns how depth is brought to metres where nobody decides otherwise.

    Args:
        use_stereo: whether the model was trained with stereo pairs, which fix the scale.

    Returns:
        A factor, or `median`: the ratio of the medians of true and predicted depth of each image.
    """
    return STEREO_FACTOR if use_stereo else "median"
