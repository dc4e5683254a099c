import math

import pytest
import torch
from helpers.device import gradcheck
from reference import geometry as reference

from md2dist.geometry.pose import axis_angle_to_rotation, build_transform, invert_transform

VECTORS = [[0.3, -0.2, 0.9], [1e-3, 2e-3, -1e-3], [0.0, 3.0, 0.0], [-2.0, 1.0, 0.5]]


def random_motion(num=5):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, num, 3, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("is_inverted", [False, True])
def test_transforms_agree_with_their_twin(is_inverted):
    axis_angle, translation = random_motion()
    transforms = build_transform(axis_angle, translation)
    if is_inverted:
        transforms = invert_transform(transforms)
    for v, t, T in zip(axis_angle, translation, transforms, strict=True):
        twin = reference.transform(v.tolist(), t.tolist(), is_inverted)
        assert torch.allclose(T, torch.tensor(twin), rtol=0, atol=1e-14)


@pytest.mark.parametrize("vector", VECTORS)
def test_the_rotation_is_the_exponential_of_the_cross_product_matrix(vector):
    x, y, z = vector
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    rotation = axis_angle_to_rotation(torch.tensor(vector, dtype=torch.float64))
    assert torch.allclose(rotation, torch.linalg.matrix_exp(cross), atol=5e-7)
    assert torch.allclose(rotation @ rotation.T, torch.eye(3).double(), atol=1e-6)
    assert math.isclose(torch.linalg.det(rotation).item(), 1, abs_tol=1e-6)


def test_a_quarter_turn_about_y_takes_z_to_x():
    rotation = axis_angle_to_rotation(torch.tensor([0, math.pi / 2, 0], dtype=torch.float64))
    turned = rotation @ torch.tensor([0, 0, 1.0], dtype=torch.float64)
    assert torch.allclose(turned, torch.tensor([1.0, 0, 0]).double(), atol=1e-6)


def test_a_transform_rotates_before_it_translates():
    axis_angle = torch.tensor([0, math.pi / 2, 0], dtype=torch.float64)
    T = build_transform(axis_angle, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    origin = torch.tensor([0, 0, 0, 1], dtype=torch.float64)
    assert torch.equal(T @ origin, torch.tensor([1.0, 2.0, 3.0, 1.0]).double())


def test_a_transform_composed_with_its_inverse_is_the_identity():
    T = build_transform(*random_motion())
    identity = torch.eye(4, dtype=torch.float64).expand_as(T)
    assert torch.allclose(invert_transform(T) @ T, identity, atol=1e-6)
    assert torch.allclose(T @ invert_transform(T), identity, atol=1e-6)
    assert torch.allclose(invert_transform(invert_transform(T)), T, atol=1e-6)


def test_no_motion_is_exactly_the_identity_and_has_a_finite_gradient():
    axis_angle = torch.zeros(1, 3, requires_grad=True)
    translation = torch.zeros(1, 3, requires_grad=True)
    T = build_transform(axis_angle, translation)
    assert torch.equal(T, torch.eye(4)[None])
    T.sum().backward()
    assert axis_angle.grad is not None
    assert torch.isfinite(axis_angle.grad).all()


def test_transforms_and_inverses_pass_gradcheck():
    axis_angle, translation = (x.requires_grad_() for x in random_motion(2).unbind(0))
    assert gradcheck(build_transform, (axis_angle, translation))
    assert gradcheck(
        lambda v, t: invert_transform(build_transform(v, t)), (axis_angle, translation)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_type_is_kept(dtype):
    motion = torch.ones(2, 3, dtype=dtype)
    assert invert_transform(build_transform(motion, motion)).dtype == dtype
