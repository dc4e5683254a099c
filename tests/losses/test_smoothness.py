import math

import torch
from helpers.device import gradcheck
from reference import losses as reference

from md2dist.losses.smoothness import smoothness_loss


def random_maps():
    generator = torch.Generator().manual_seed(0)
    disparity = torch.rand(2, 1, 4, 6, dtype=torch.float64, generator=generator)
    return disparity, torch.rand(2, 3, 4, 6, dtype=torch.float64, generator=generator)


def test_the_loss_agrees_with_its_twin():
    disparity, image = random_maps()
    twin = reference.smoothness_loss(disparity[:, 0].cpu().numpy(), image.cpu().numpy())
    assert math.isclose(smoothness_loss(disparity, image), twin, rel_tol=1e-12)


def test_the_loss_passes_gradcheck():
    disparity, image = random_maps()
    disparity.requires_grad_()
    assert gradcheck(lambda d: smoothness_loss(d, image), disparity)


def test_a_flat_disparity_costs_nothing():
    _, image = random_maps()
    assert smoothness_loss(torch.full((2, 1, 4, 6), 0.3, dtype=torch.float64), image) == 0


def test_the_loss_does_not_depend_on_the_scale_of_disparity():
    disparity, image = random_maps()
    loss = smoothness_loss(disparity, image)
    assert math.isclose(smoothness_loss(7 * disparity, image), loss, rel_tol=1e-5)


def test_a_step_costs_less_at_an_edge_of_the_image():
    disparity = torch.ones(1, 1, 4, 6, dtype=torch.float64)
    disparity[..., 3:] = 2
    flat = torch.zeros(1, 3, 4, 6, dtype=torch.float64)
    edge = flat.clone()
    edge[..., 3:] = 1
    ratio = smoothness_loss(disparity, edge) / smoothness_loss(disparity, flat)
    assert math.isclose(ratio, math.exp(-1), rel_tol=1e-12)
