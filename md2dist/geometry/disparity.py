"""Conversion of the network's disparity to depth."""

import torch


def scale_disparity(disparity: torch.Tensor, min_depth: float, max_depth: float) -> torch.Tensor:
    """Maps disparity linearly to inverse depth.

    Source: Godard et al., ICCV 2019, section 4, "depth = 1 / (a disparity + b)".

    Args:
        disparity: any shape, in (0, 1).
        min_depth: depth of disparity 1, in m.
        max_depth: depth of disparity 0, in m.

    Returns:
        Scaled disparity in 1/m, of the same shape.
    """
    lowest, highest = 1 / max_depth, 1 / min_depth
    return lowest + (highest - lowest) * disparity


def disparity_to_depth(disparity: torch.Tensor, min_depth: float, max_depth: float) -> torch.Tensor:
    """Returns the depth in m of a disparity in (0, 1), of any shape; see `scale_disparity`."""
    return 1 / scale_disparity(disparity, min_depth, max_depth)
