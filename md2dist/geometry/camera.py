"""Pinhole camera: projection of the target's pixels into the sources.

It uses no matrix product: with TF32 enabled, a GPU would round its factors to 11 bits and shift the
pixels by tenths of a pixel.
"""

import torch

EPSILON = 1e-7


def reproject(
    depth: torch.Tensor, K: torch.Tensor, T_source_target: torch.Tensor, num_maps: int = 1
) -> torch.Tensor:
    """Projects the pixels of the target, at their depths, into each source.

    The ray of pixel (x, y) is r = ((x - cx) / fx, (y - cy) / fy, 1). Its point at depth z is
    z r, which is projected to K (z R r + t) for T_source_target = [R | t]. A point in or behind the
    source's image plane yields meaningless coordinates.

    Source: Zhou et al., CVPR 2017, equation 2.

    Args:
        depth: (B, 1, N * H, W), in m: N depth maps, one below the other.
        K: (B, 3, 3), in pixels of `depth`, without skew, shared by target and sources.
        T_source_target: (B, S, 4, 4), p_source = T_source_target @ p_target.
        num_maps: number N of depth maps.

    Returns:
        Coordinates (x, y) in the sources, (B, S, 2, N * H, W): from -1, the centre of the first
        column or row, to 1, the centre of the last one.
    """
    height, width = depth.shape[-2] // num_maps, depth.shape[-1]
    columns = torch.arange(width, dtype=depth.dtype, device=depth.device)
    rows = torch.arange(height, dtype=depth.dtype, device=depth.device)
    if num_maps > 1:
        rows = rows.repeat(num_maps)
    fx, cx, fy, cy = (
        K[:, i, j, None, None, None, None] for i, j in ((0, 0), (0, 2), (1, 1), (1, 2))
    )
    ray_x = (columns - cx) / fx  # (B, 1, 1, 1, W)
    ray_y = (rows[:, None] - cy) / fy  # (B, 1, 1, N * H, 1)

    # With K in units of the returned coordinates, only the shift by 1 is left to the end.
    unit_K = torch.cat((K[:, :1] * (2 / (width - 1)), K[:, 1:2] * (2 / (height - 1)), K[:, 2:]), 1)
    projection = (unit_K[:, None, :, :, None] * T_source_target[:, :, None, :3]).sum(-2)
    along_x, along_y, along_z, epipole = projection[..., None].split(1, dim=-2)  # (B, S, 3, 1, 1)
    directions = (along_x * ray_x + along_z) + along_y * ray_y  # K R r, (B, S, 3, N * H, W)
    xy, z = torch.addcmul(epipole, depth[:, None], directions).split((2, 1), dim=2)
    return (xy / (z + EPSILON)).sub_(1)


def divide_intrinsics(K: torch.Tensor, scale: int) -> torch.Tensor:
    """Returns intrinsics at a scale of the pyramid, by plain division.

    The published recipe divides the first two rows, principal point included. `resize_intrinsics`
    in `data/images` keeps the edges of the image in place instead (half-pixel centres).

    Args:
        K: (B, 3, 3), in pixels of scale 0.
        scale: number of halvings.

    Returns:
        (B, 3, 3), in pixels of that scale.
    """
    return torch.cat((K[:, :2] / 2**scale, K[:, 2:]), dim=1)
