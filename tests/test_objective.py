"""The whole loss, with each option, against its twin on given predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import losses as reference

from md2dist.config import LossConfig
from md2dist.geometry.pose import build_transform
from md2dist.kernel_style import few_kernels_everywhere
from md2dist.objective import Predictions, compute_loss, draw_noise
from md2dist.records import Batch

PLAIN = LossConfig(tie_noise=0.0, min_depth=1.0, max_depth=20.0, smoothness_weight=0.1)
OPTIONS = {
    "as published": {},
    "v1 multi-scale": {"use_v1_multiscale": True},
    "average": {"use_average": True},
    "no auto-mask": {"use_auto_mask": False},
    "average without auto-mask": {"use_average": True, "use_auto_mask": False},
    "no SSIM": {"use_ssim": False},
    "predictive mask": {"use_predictive_mask": True, "use_auto_mask": False},
    "v1 with predictive mask and average": {
        "use_predictive_mask": True,
        "use_auto_mask": False,
        "use_v1_multiscale": True,
        "use_average": True,
    },
}
HEIGHT, WIDTH, NUM, NUM_SOURCES = 16, 24, 2, 2


def random_scene(use_mask, dtype=torch.float64):
    """Smooth images that resemble each other, so that both kinds of error win somewhere."""
    generator = torch.Generator().manual_seed(4)

    def rand(*shape):
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    def images(num):
        coarse = torch.nn.functional.interpolate(rand(1, 3, 4, 6), (HEIGHT, WIDTH), mode="bicubic")
        return (0.25 + 0.5 * coarse + 0.1 * rand(num, 3, HEIGHT, WIDTH)).clamp(0, 1)

    frames = images(NUM * (1 + NUM_SOURCES)).unflatten(0, (NUM, 1 + NUM_SOURCES))
    target, sources = frames[:, 0], frames[:, 1:]
    K = torch.tensor([[0.58 * WIDTH, 0, 0.5 * WIDTH], [0, 1.92 * HEIGHT, 0.5 * HEIGHT], [0, 0, 1]])
    eye = torch.eye(4, dtype=torch.float64).expand(NUM, 4, 4)
    noise = rand(NUM, 3, HEIGHT, WIDTH)  # what the networks saw must not matter
    batch = Batch(
        target, noise, sources, sources.flip(1), K.double().expand(NUM, 3, 3), eye, torch.arange(2)
    )
    sizes = [(HEIGHT >> scale, WIDTH >> scale) for scale in range(4)]
    motions = 0.1 * (rand(2, NUM, NUM_SOURCES, 3) - 0.5)
    predictions = Predictions(
        tuple(rand(NUM, 1, *size) for size in sizes),
        tuple(0.1 + 0.8 * rand(NUM, NUM_SOURCES, *size) for size in sizes) if use_mask else (),
        build_transform(*motions),
    )
    return (
        Predictions(
            tuple(x.to(dtype).requires_grad_() for x in predictions.disparities),
            tuple(x.to(dtype).requires_grad_() for x in predictions.masks),
            predictions.T_source_target.to(dtype).requires_grad_(),
        ),
        Batch(*(x.to(dtype) if x.is_floating_point() else x for x in batch)),
    )


@pytest.mark.parametrize("num_in_mean_depth", [0, 1, 2])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_the_loss_of_each_scale_agrees_with_its_twin(options, num_in_mean_depth):
    settings = replace(PLAIN, **options)
    predictions, batch = random_scene(settings.use_predictive_mask)
    predictions = predictions._replace(num_in_mean_depth=num_in_mean_depth)
    output = compute_loss(predictions, batch, settings)
    losses, warped, auto_mask = reference.scale_losses(
        [x[:, 0].detach().cpu().numpy() for x in predictions.disparities],
        [x.detach().cpu().numpy() for x in predictions.masks] or None,
        predictions.T_source_target.detach().cpu().numpy(),
        Batch(*(x.cpu().numpy() for x in batch)),
        settings,
        num_in_mean_depth,
    )
    assert np.allclose(output.scale_losses.cpu(), losses, rtol=1e-10, atol=0)
    assert torch.equal(output.loss.detach(), output.scale_losses.mean())
    assert np.allclose(output.warped.cpu(), warped, rtol=0, atol=1e-10)
    assert np.array_equal(output.auto_mask.cpu(), auto_mask)
    assert output.auto_mask.all() != settings.use_auto_mask


@pytest.mark.parametrize("num_in_mean_depth", [0, 1])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_the_gradient_is_that_of_finite_differences(options, num_in_mean_depth):
    settings = replace(PLAIN, **options)
    predictions, batch = random_scene(settings.use_predictive_mask)
    inputs = (*predictions.disparities, *predictions.masks, predictions.T_source_target)

    def loss(*inputs):
        scene = Predictions(inputs[:4], inputs[4:-1], inputs[-1], num_in_mean_depth)
        return compute_loss(scene, batch, settings).loss

    generator = torch.Generator().manual_seed(6)
    gradients = torch.autograd.grad(loss(*inputs), inputs)
    with torch.no_grad():
        for i, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
            step = 1e-7 * torch.randn(x.shape, dtype=x.dtype, generator=generator)
            before, after = inputs[:i], inputs[i + 1 :]
            difference = loss(*before, x + step, *after) - loss(*before, x - step, *after)
            expected = (gradient * step).sum().item()
            assert difference.item() / 2 == pytest.approx(expected, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("num_in_mean_depth", [0, 1])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_all_samples_and_scales_at_once_give_what_one_by_one_gives(options, num_in_mean_depth):
    """The CPU takes them one by one, a GPU all at once: here both run on the CPU."""
    settings = replace(PLAIN, **options)
    predictions, batch = random_scene(settings.use_predictive_mask)
    predictions = predictions._replace(num_in_mean_depth=num_in_mean_depth)
    inputs = (*predictions.disparities, *predictions.masks, predictions.T_source_target)
    expected = compute_loss(predictions, batch, settings)
    with few_kernels_everywhere():
        output = compute_loss(predictions, batch, settings)
        gradients = torch.autograd.grad(output.loss, inputs)
    assert torch.equal(output.loss.detach(), output.scale_losses.mean())
    assert torch.allclose(output.scale_losses, expected.scale_losses, rtol=1e-12)
    assert torch.allclose(output.warped, expected.warped, atol=1e-13)
    assert torch.equal(output.auto_mask, expected.auto_mask)
    one_by_one = torch.autograd.grad(expected.loss, inputs)
    for gradient, other in zip(gradients, one_by_one, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-9, atol=1e-15)


def noise_of(settings, has_mean_depth=False):
    _, batch = random_scene(use_mask=False)
    return draw_noise(batch, settings, has_mean_depth, torch.Generator().manual_seed(3))


def test_noise_has_the_shape_of_what_it_is_added_to_and_is_drawn_only_where_it_counts():
    noisy = replace(PLAIN, tie_noise=1e-3)
    assert noise_of(PLAIN) == noise_of(replace(noisy, use_auto_mask=False)) == ()
    assert [[x.shape for x in part] for part in noise_of(noisy)] == NUM * [
        4 * [(1, NUM_SOURCES, 1, HEIGHT, WIDTH)]
    ]
    averaged = replace(noisy, use_average=True, use_v1_multiscale=True)
    with few_kernels_everywhere():
        assert noise_of(noisy)[0][0].shape == (NUM, NUM_SOURCES, 4, HEIGHT, WIDTH)
        assert len(noise_of(noisy, has_mean_depth=True)[0]) == 4
        sizes = [tuple(x.shape) for x in noise_of(averaged)[0]]
    assert sizes == [(NUM, 1, 1, HEIGHT >> scale, WIDTH >> scale) for scale in range(4)]


def test_only_the_loss_carries_a_gradient():
    predictions, batch = random_scene(use_mask=False)
    output = compute_loss(predictions, batch, PLAIN)
    assert output.loss.requires_grad
    rest = (output.scale_losses, *output.disparities, *output[3:])
    assert not any(x.requires_grad for x in rest)


def test_float32_and_float64_losses_agree_and_keep_their_type():
    predictions, batch = random_scene(use_mask=False)
    single = compute_loss(*random_scene(use_mask=False, dtype=torch.float32), PLAIN)
    assert single.loss.dtype == single.warped.dtype == torch.float32
    exact = compute_loss(predictions, batch, PLAIN)
    assert torch.allclose(single.scale_losses.double(), exact.scale_losses, rtol=1e-5)
