import pytest
import torch
from helpers.device import gradcheck
from reference import geometry as reference
from test_camera import intrinsics, random_scene

from md2dist.geometry.camera import reproject
from md2dist.geometry.warp import warp


def random_images(num=2, num_sources=3, height=6, width=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(5)
    return torch.rand(num, num_sources, 3, height, width, dtype=dtype, generator=generator)


def stereo_transform(t_x, num=1):
    T = torch.eye(4, dtype=torch.float64).repeat(num, 1, 1, 1)
    T[..., 0, 3] = t_x
    return T


def test_warped_images_agree_with_the_twin():
    depth, K, T = random_scene()
    images = random_images()
    warped = warp(images, reproject(depth, K, T))
    for b in range(2):
        for s in range(3):
            twin = reference.warp(
                images[b, s].cpu().numpy(),
                depth[b, 0].cpu().numpy(),
                K[b].cpu().numpy(),
                T[b, s].cpu().numpy(),
            )
            assert torch.allclose(warped[b, s], torch.tensor(twin), rtol=0, atol=1e-12)


def test_without_motion_the_warped_image_is_the_image_bit_for_bit():
    # Sizes and depths at which every step of the arithmetic is exact in float32.
    height, width = 33, 65
    K = torch.tensor([[64.0, 0, 32], [0, 32, 16], [0, 0, 1]])[None]
    depth = torch.full((1, 1, height, width), 4.0)
    depth[..., width // 2 :] = 32.0
    images = random_images(1, 1, height, width, torch.float32)
    warped = warp(images, reproject(depth, K, torch.eye(4)[None, None]))
    assert torch.equal(warped, images)


def test_without_motion_the_warped_image_is_the_image_to_rounding_at_full_size():
    images = random_images(1, 1, 192, 640, torch.float32)
    depth = 1 + 80 * torch.rand(1, 1, 192, 640)
    K = intrinsics(192, 640, torch.float32)
    warped = warp(images, reproject(depth, K, torch.eye(4)[None, None]))
    assert (warped - images).abs().max() < 5e-4


@pytest.mark.parametrize("shift", [-3, 2])
def test_a_plane_whose_disparity_is_whole_pixels_shifts_the_image_by_them(shift):
    height, width, focal_length = 5, 12, 20.0
    K = torch.tensor([[focal_length, 0, 6.0], [0, 15.0, 2.5], [0, 0, 1]], dtype=torch.float64)[None]
    depth = torch.full((1, 1, height, width), focal_length * 0.1 / abs(shift)).double()
    images = random_images(1, 1, height, width)
    T = stereo_transform(0.1 if shift > 0 else -0.1)
    warped = warp(images, reproject(depth, K, T))
    columns = (torch.arange(width) + shift).clamp(0, width - 1)  # the border is repeated
    assert torch.allclose(warped, images[..., columns], atol=1e-5)


@pytest.mark.parametrize("t_x", [-0.1, 0.1])
def test_flipping_images_and_the_sign_of_the_baseline_flips_the_warped_image(t_x):
    height, width = 6, 8
    # The mirror image of a camera has its centre at W - 1 - cx; this one is its own mirror image.
    K = torch.tensor([[5.0, 0, (width - 1) / 2], [0, 9.0, 3.0], [0, 0, 1]], dtype=torch.float64)
    images = random_images(2, 1)
    depth = 0.5 + torch.rand(2, 1, height, width, dtype=torch.float64)
    K = K.expand(2, 3, 3)
    plain = warp(images, reproject(depth, K, stereo_transform(t_x, 2)))
    flipped = warp(images.flip(-1), reproject(depth.flip(-1), K, stereo_transform(-t_x, 2)))
    assert torch.allclose(flipped.flip(-1), plain, atol=1e-6)  # 1e-7 is added to the depth
    unchanged_sign = warp(images.flip(-1), reproject(depth.flip(-1), K, stereo_transform(t_x, 2)))
    assert (unchanged_sign.flip(-1) - plain).abs().max() > 0.1


def test_a_constant_image_stays_constant_wherever_it_is_sampled():
    depth, K, T = random_scene()
    images = torch.full((2, 3, 3, 6, 8), 0.3, dtype=torch.float64)
    warped = warp(images, reproject(0.01 * depth, K, T))
    assert torch.allclose(warped, images, atol=1e-15)


def test_warping_passes_gradcheck_through_depth_and_motion():
    depth, K, T = random_scene(num=1, num_sources=2)
    depth = (3 * depth[..., :4, :5]).clone().requires_grad_()
    images = random_images(1, 2, 4, 5)
    assert gradcheck(
        lambda d, t: warp(images, reproject(d, K, t)), (depth, T.requires_grad_()), atol=1e-4
    )


def test_a_coordinate_that_is_not_a_number_neither_crashes_nor_passes_unseen():
    images = torch.rand(1, 2, 3, 8, 8)
    coordinates = torch.zeros(1, 2, 2, 8, 8)
    coordinates[0, 1, :, 3, 4] = float("nan")
    coordinates.requires_grad_()
    warped = warp(images, coordinates)
    warped.sum().backward()
    if coordinates.is_cuda:  # its kernel takes the coordinate for 0, with a gradient of 0
        return
    assert not torch.isfinite(warped).any()
    assert not torch.isfinite(coordinates.grad).any()


def test_a_depth_that_is_not_a_number_spoils_the_gradient_of_the_motion():
    depth, K, T = random_scene()
    depth[0, 0, 3, 4] = float("nan")
    T.requires_grad_()
    warp(random_images(), reproject(depth, K, T)).sum().backward()
    assert not torch.isfinite(T.grad[0, :, :3]).any()
