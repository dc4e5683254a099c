"""The pinhole camera: where the pixels of the target lie in the sources.

All products are elementwise sums, never matrix products: a GPU that is allowed TF32 would round
those to 11 bits and move the pixels by tenths of one.
"""

import torch

EPSILON = 1e-7


def reproject(depth: torch.Tensor, K: torch.Tensor, T_source_target: torch.Tensor) -> torch.Tensor:
    """Projects the pixels of the target, at their depths, into each source.

    A pixel p at depth z goes to the homogeneous point z H p + e, with the homography of the plane
    at infinity H = K R K^-1 and the epipole e = K t, for T_source_target = [R | t]. A point in or
    behind the source's image plane yields a coordinate without meaning.

    Source: Hartley & Zisserman, Multiple View Geometry, section 13.4; Zhou et al., CVPR 2017,
    equation 2.

    Args:
        depth: (B, 1, H, W), in m.
        K: (B, 3, 3), in pixels of `depth`, shared by target and sources; upper triangular.
        T_source_target: (B, S, 4, 4), p_source = T_source_target @ p_target.

    Returns:
        Pixel coordinates (x, y) in the sources, (B, S, 2, H, W); pixel centres are integers.
    """
    height, width = depth.shape[-2:]
    x = torch.arange(width, dtype=depth.dtype, device=depth.device)
    y = torch.arange(height, dtype=depth.dtype, device=depth.device)
    K = K[:, None]
    rotation, translation = T_source_target[..., :3, :3], T_source_target[..., :3, 3:]
    homography = _multiply(_multiply(K, rotation), _invert_intrinsics(K))
    epipole = _multiply(K, translation)[..., None]  # (B, S, 3, 1, 1)

    along_x, along_y, constant = homography[..., None].split(1, dim=-2)  # (B, S, 3, 1, 1) each
    at_infinity = (along_x * x + constant) + along_y * y[:, None]  # (B, S, 3, H, W)
    points = torch.addcmul(epipole, depth[:, None], at_infinity)
    return points[:, :, :2] / (points[:, :, 2:] + EPSILON)


def scale_intrinsics(K: torch.Tensor, scale: int) -> torch.Tensor:
    """Returns the intrinsics (B, 3, 3) of the image at a scale, in its pixels."""
    return torch.cat((K[:, :2] / 2**scale, K[:, 2:]), dim=1)


def _invert_intrinsics(K: torch.Tensor) -> torch.Tensor:
    identity = torch.eye(3, dtype=K.dtype, device=K.device).expand_as(K)
    return torch.linalg.solve_triangular(K, identity, upper=True)


def _multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multiplies matrices (..., I, J) and (..., J, K)."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)
