"""The pinhole camera: where the pixels of the target lie in the sources.

There is no matrix product in here: a GPU that is allowed TF32 would round its factors to 11 bits
and move the pixels by tenths of one.
"""

import torch

EPSILON = 1e-7


def reproject(depth: torch.Tensor, K: torch.Tensor, T_source_target: torch.Tensor) -> torch.Tensor:
    """Projects the pixels of the target, at their depths, into each source.

    The pixel (x, y) sees the ray r = ((x - cx) / fx, (y - cy) / fy, 1). Its point at depth z is
    z r, which is projected to K (z R r + t) for T_source_target = [R | t]. A point in or behind the
    source's image plane yields coordinates without meaning.

    Source: Zhou et al., CVPR 2017, equation 2.

    Args:
        depth: (B, 1, H, W), in m.
        K: (B, 3, 3), in pixels of `depth`, without skew, shared by target and sources.
        T_source_target: (B, S, 4, 4), p_source = T_source_target @ p_target.

    Returns:
        Coordinates (x, y) in the sources, (B, S, 2, H, W): from -1, the centre of the first column
        or row, to 1, the centre of the last one.
    """
    height, width = depth.shape[-2:]
    columns = torch.arange(width, dtype=depth.dtype, device=depth.device)
    rows = torch.arange(height, dtype=depth.dtype, device=depth.device)
    fx, cx, fy, cy = (
        K[:, i, j, None, None, None, None] for i, j in ((0, 0), (0, 2), (1, 1), (1, 2))
    )
    ray_x = (columns - cx) / fx  # (B, 1, 1, 1, W)
    ray_y = (rows[:, None] - cy) / fy  # (B, 1, 1, H, 1)

    # With K in units of the coordinates returned, these lack but the shift by 1 at the end.
    unit_K = torch.cat((K[:, :1] * (2 / (width - 1)), K[:, 1:2] * (2 / (height - 1)), K[:, 2:]), 1)
    projection = (unit_K[:, None, :, :, None] * T_source_target[:, :, None, :3]).sum(-2)
    along_x, along_y, along_z, epipole = projection[..., None].split(1, dim=-2)  # (B, S, 3, 1, 1)
    directions = (along_x * ray_x + along_z) + along_y * ray_y  # K R r, (B, S, 3, H, W)
    xy, z = torch.addcmul(epipole, depth[:, None], directions).split((2, 1), dim=2)
    return (xy / (z + EPSILON)).sub_(1)


def divide_intrinsics(K: torch.Tensor, scale: int) -> torch.Tensor:
    """Returns the intrinsics (B, 3, 3) of the image at a scale, in its pixels."""
    return torch.cat((K[:, :2] / 2**scale, K[:, 2:]), dim=1)
