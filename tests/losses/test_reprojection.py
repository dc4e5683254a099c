import math

import pytest
import torch
from helpers.device import gradcheck
from reference import losses as reference

from md2dist.losses.reprojection import draw_tie_noise, predictive_mask_loss, reduce_sources


def random_errors():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 2, 3, 4, 5, dtype=torch.float64, generator=generator).unbind(0)


@pytest.mark.parametrize("use_average", [False, True])
@pytest.mark.parametrize("use_auto_mask", [False, True])
def test_the_reduction_agrees_with_its_twin(use_average, use_auto_mask):
    reprojection, identity = random_errors()
    error, mask = reduce_sources(reprojection, identity if use_auto_mask else None, use_average)
    for b in range(2):
        twin_error, twin_mask = reference.reduce_sources(
            reprojection[b].cpu().numpy(),
            identity[b].cpu().numpy() if use_auto_mask else None,
            use_average,
        )
        assert torch.allclose(error[b], torch.tensor(twin_error), rtol=0, atol=1e-15)
        assert torch.equal(mask[b], torch.tensor(twin_mask))
    assert mask.all() != use_auto_mask


@pytest.mark.parametrize("use_average", [False, True])
def test_the_reduction_passes_gradcheck(use_average):
    reprojection, identity = random_errors()
    reprojection.requires_grad_()
    assert gradcheck(lambda e: reduce_sources(e, identity, use_average)[0], reprojection)


def test_the_gradient_reaches_the_best_source_alone_and_no_masked_pixel():
    reprojection, identity = random_errors()
    reprojection.requires_grad_()
    error, mask = reduce_sources(reprojection, identity)
    error.sum().backward()
    best = torch.zeros_like(reprojection).scatter_(1, reprojection.argmin(1, keepdim=True), 1)
    assert torch.equal(reprojection.grad, best * mask[:, None])


def test_the_order_of_the_sources_does_not_matter():
    reprojection, identity = random_errors()
    error, mask = reduce_sources(reprojection, identity)
    other_error, other_mask = reduce_sources(reprojection.flip(1), identity.flip(1))
    assert torch.equal(error, other_error)
    assert torch.equal(mask, other_mask)


def test_at_a_tie_the_pixel_does_not_count():
    reprojection, _ = random_errors()
    error, mask = reduce_sources(reprojection, reprojection.clone())
    assert torch.equal(error, reprojection.amin(1))
    assert not mask.any()


@pytest.mark.parametrize("use_average", [False, True])
def test_noise_breaks_ties_both_ways_and_has_the_announced_size(use_average, device):
    errors = torch.full((1, 1, 200, 200), 0.5, dtype=torch.float64)
    generator = torch.Generator(device).manual_seed(0)
    drawn = draw_tie_noise(errors.shape, 1e-5, errors, generator)
    error, mask = reduce_sources(errors, errors, use_average, drawn)
    assert 0.45 < mask.double().mean() < 0.55
    noise = error[~mask] - 0.5  # the negative half of a normal distribution
    assert math.isclose(noise.square().mean().sqrt(), 1e-5, rel_tol=0.05)


def test_the_same_seed_gives_the_same_noise_and_each_call_fresh_noise(device):
    errors = torch.full((1, 2, 20, 20), 0.5)
    generator = torch.Generator(device).manual_seed(7)
    first, second = (draw_tie_noise(errors.shape, 1e-5, errors, generator) for _ in range(2))
    generator.manual_seed(7)
    assert torch.equal(first, draw_tie_noise(errors.shape, 1e-5, errors, generator))
    assert not torch.equal(first, second)


def test_the_loss_of_a_predictive_mask_agrees_with_its_twin_and_vanishes_at_one():
    mask = 0.1 + 0.8 * random_errors()[0]
    twin = reference.predictive_mask_loss(mask.cpu().numpy())
    assert math.isclose(predictive_mask_loss(mask), twin, rel_tol=1e-12)
    assert predictive_mask_loss(torch.ones(3)) == 0
    assert gradcheck(predictive_mask_loss, mask.requires_grad_())
