"""Rigid motions: 4x4 transforms from axis-angle and translation."""

import torch
from torch.nn import functional

EPSILON = 1e-7


def axis_angle_to_rotation(axis_angle: torch.Tensor) -> torch.Tensor:
    """Converts rotation vectors to rotation matrices.

    Source: Rodrigues' formula, R = cos(a) I + (1 - cos(a)) u u^T + sin(a) [u]_x.

    Args:
        axis_angle: (..., 3), the axis times the angle in radians.

    Returns:
        Rotations (..., 3, 3); the identity with zero gradient for a zero vector.
    """
    angle = torch.linalg.vector_norm(axis_angle, dim=-1, keepdim=True)
    axis = axis_angle / (angle + EPSILON)
    angle = angle[..., None]
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
    outer = axis[..., :, None] * axis[..., None, :]
    identity = torch.eye(3, dtype=axis.dtype, device=axis.device)
    return angle.cos() * identity + (1 - angle.cos()) * outer + angle.sin() * cross


def build_transform(axis_angle: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Builds transforms that rotate first, then translate.

    Args:
        axis_angle: (..., 3), in radians.
        translation: (..., 3), in m.

    Returns:
        Transforms (..., 4, 4).
    """
    return _assemble(axis_angle_to_rotation(axis_angle), translation)


def invert_transform(transform: torch.Tensor) -> torch.Tensor:
    """Inverts rigid transforms (..., 4, 4), by the transposed rotation."""
    inverse_rotation = transform[..., :3, :3].transpose(-1, -2)
    translation = transform[..., :3, 3]
    return _assemble(inverse_rotation, -(inverse_rotation * translation[..., None, :]).sum(-1))


def scale_translation(transform: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Multiplies the translations of rigid transforms (..., 4, 4) by factors (...)."""
    return _assemble(transform[..., :3, :3], transform[..., :3, 3] * factor[..., None])


def _assemble(rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Joins (..., 3, 3) and (..., 3) to (..., 4, 4)."""
    top = torch.cat((rotation, translation[..., None]), -1)
    bottom = functional.pad(torch.ones_like(top[..., :1, :1]), (3, 0))
    return torch.cat((top, bottom), -2)
