import pytest
import torch
from helpers.device import gradcheck
from reference import geometry as reference

from md2dist.geometry.camera import divide_intrinsics, reproject
from md2dist.geometry.pose import build_transform, invert_transform

HEIGHT, WIDTH = 6, 8


def intrinsics(height=HEIGHT, width=WIDTH, dtype=torch.float64):
    K = [[0.58 * width, 0, 0.45 * width], [0, 1.92 * height, 0.52 * height], [0, 0, 1]]
    return torch.tensor(K, dtype=dtype)[None]


def to_pixels(coordinates):
    height, width = coordinates.shape[-2:]
    scale = torch.tensor([width - 1, height - 1], dtype=coordinates.dtype)[:, None, None] / 2
    return (coordinates + 1) * scale


def pixel_grid(height=HEIGHT, width=WIDTH, dtype=torch.float64):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y)).to(dtype)


def random_scene(num=2, num_sources=3):
    generator = torch.Generator().manual_seed(1)
    depth = 1 + 5 * torch.rand(num, 1, HEIGHT, WIDTH, dtype=torch.float64, generator=generator)
    motions = 0.2 * torch.randn(2, num, num_sources, 3, dtype=torch.float64, generator=generator)
    K = intrinsics() * (1 + 0.1 * torch.arange(num)[:, None, None])
    K[:, 2, 2] = 1
    return depth, K, build_transform(*motions)


def test_pixels_agree_with_the_twin():
    depth, K, T = random_scene()
    pixels = to_pixels(reproject(depth, K, T))
    for b in range(2):
        for s in range(3):
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    expected = reference.project_pixel(
                        x, y, depth[b, 0, y, x].item(), K[b].cpu().numpy(), T[b, s].cpu().numpy()
                    )
                    assert pixels[b, s, :, y, x].tolist() == pytest.approx(expected, abs=1e-12)


def test_without_motion_every_pixel_stays():
    depth, K, _ = random_scene()
    T = torch.eye(4, dtype=torch.float64).expand(2, 1, 4, 4)
    pixels = to_pixels(reproject(depth, K, T))
    assert torch.allclose(pixels, pixel_grid().expand_as(pixels), atol=1e-6)


def test_a_plane_at_infinity_moves_by_the_rotation_alone():
    _, K, T = random_scene()
    without_translation = T.clone()
    without_translation[..., :3, 3] = 0
    far = torch.full((2, 1, HEIGHT, WIDTH), 1e9, dtype=torch.float64)
    moved, turned = reproject(far, K, T), reproject(far, K, without_translation)
    assert torch.allclose(moved, turned, atol=1e-8)


@pytest.mark.parametrize("side", [-1, 1], ids=["left target", "right target"])
@pytest.mark.parametrize("depth", [0.5, 4.0, 20.0])
def test_a_stereo_partner_shifts_a_plane_by_the_disparity_of_its_depth(side, depth):
    T = torch.eye(4, dtype=torch.float64)[None, None].clone()
    T[..., 0, 3] = side * 0.1
    K = intrinsics()
    plane = torch.full((1, 1, HEIGHT, WIDTH), depth, dtype=torch.float64)
    shift = to_pixels(reproject(plane, K, T)) - pixel_grid()
    expected = side * K[0, 0, 0] * 0.1 / depth
    assert torch.allclose(shift[:, :, 0], expected.expand(HEIGHT, WIDTH), atol=1e-5)
    assert torch.allclose(shift[:, :, 1], torch.zeros(1, dtype=torch.float64), atol=1e-5)


def test_seen_back_from_the_source_a_pixel_returns():
    depth, K, T = random_scene(num=1, num_sources=1)
    x, y = to_pixels(reproject(depth, K, T))[0, 0]
    for row, column in ((0, 0), (2, 5), (5, 7)):
        point = (
            depth[0, 0, row, column]
            * torch.linalg.inv(K[0])
            @ torch.tensor([column, row, 1.0], dtype=torch.float64)
        )
        depth_there = (T[0, 0, :3, :3] @ point + T[0, 0, :3, 3])[2].item()
        place = x[row, column].item(), y[row, column].item()
        back = reference.project_pixel(
            *place, depth_there, K[0].cpu().numpy(), invert_transform(T)[0, 0].cpu().numpy()
        )
        assert back == pytest.approx((column, row), abs=1e-4)


def test_reprojection_passes_gradcheck():
    depth, K, T = random_scene(num=1, num_sources=2)
    inputs = (depth[..., :3, :4].clone().requires_grad_(), T.requires_grad_())
    assert gradcheck(lambda d, t: reproject(d, K, t), inputs)


def test_float32_pixels_lie_within_a_thousandth_of_the_float64_ones_at_full_size():
    _, _, T = random_scene(num=1)
    generator = torch.Generator().manual_seed(2)
    depth = 2 + 50 * torch.rand(1, 1, 192, 640, dtype=torch.float64, generator=generator)
    K = intrinsics(192, 640)
    exact = to_pixels(reproject(depth, K, T))
    single = to_pixels(reproject(depth.float(), K.float(), T.float()))
    is_inside = exact.abs() < 1000
    assert (exact - single)[is_inside].abs().max() < 1e-3


def test_intrinsics_of_a_scale_are_those_of_the_smaller_image():
    assert torch.allclose(divide_intrinsics(intrinsics(64, 96), 2), intrinsics(16, 24))
    assert torch.equal(divide_intrinsics(intrinsics(), 0), intrinsics())
