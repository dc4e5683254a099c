import pytest
import torch
from helpers.device import gradcheck
from reference import losses as reference

from md2dist.losses.photometric import StructuralSimilarity, photometric_error


def random_images(dtype=torch.float64, height=5, width=7):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 2, 3, height, width, dtype=dtype, generator=generator)
    target = torch.rand(2, 3, height, width, dtype=dtype, generator=generator)
    return images, target


@pytest.mark.parametrize("use_ssim", [True, False])
@pytest.mark.parametrize("contrast", [1.0, 0.01])
def test_the_error_agrees_with_its_twin(use_ssim, contrast):
    images, target = (0.4 + contrast * x for x in random_images())
    errors = photometric_error(images, target, use_ssim)
    for b in range(2):
        for s in range(2):
            twin = reference.photometric_error(
                images[b, s].cpu().numpy(), target[b].cpu().numpy(), use_ssim
            )
            assert torch.allclose(errors[b, s], torch.tensor(twin), rtol=0, atol=1e-12)


@pytest.mark.parametrize("use_ssim", [True, False])
def test_the_error_passes_gradcheck(use_ssim):
    images, target = random_images()
    images.requires_grad_()
    assert gradcheck(lambda x: photometric_error(x, target, use_ssim), images)


@pytest.mark.parametrize("shape", [(2, 2), (2, 5), (3, 3)])
def test_the_derivative_holds_at_every_border_even_of_tiny_images(shape):
    images, target = random_images(height=shape[0], width=shape[1])
    images.requires_grad_()
    assert gradcheck(StructuralSimilarity.apply, (images, target[:, None]))


def test_equal_images_have_no_error_and_no_gradient():
    _, target = random_images()
    images = target[:, None].clone().requires_grad_()
    error = photometric_error(images, target)
    assert torch.allclose(error, torch.zeros_like(error), atol=1e-12)
    error.sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() < 1e-10


def test_the_similarity_is_symmetric_and_within_its_bounds():
    images, target = random_images()
    similarity = StructuralSimilarity.apply(images[:, 0], target)
    assert torch.allclose(similarity, StructuralSimilarity.apply(target, images[:, 0]), atol=1e-12)
    assert similarity.abs().max() <= 1
    assert similarity.min() < 0 < similarity.max()


def test_mirrored_images_have_the_mirrored_error():
    images, target = random_images()
    mirrored = photometric_error(images.flip(-1), target.flip(-1)).flip(-1)
    assert torch.allclose(mirrored, photometric_error(images, target), atol=1e-14)


def test_the_value_does_not_depend_on_whether_a_gradient_is_wanted():
    images, target = random_images(torch.float32, 16, 24)
    with_gradient = photometric_error(images.requires_grad_(), target)
    assert torch.equal(with_gradient.detach(), photometric_error(images.detach(), target))


def test_no_gradient_reaches_the_target():
    images, target = random_images()
    photometric_error(images.requires_grad_(), target.requires_grad_()).sum().backward()
    assert target.grad is None


def test_float32_resolves_the_error_of_low_contrast_patches():
    images, target = (0.5 + 0.01 * x for x in random_images(height=32, width=32))
    exact = photometric_error(images, target)
    single = photometric_error(images.float(), target.float())
    assert (single - exact).abs().max() < 1e-3
    assert abs(single.mean() - exact.mean()) < 1e-2 * exact.mean()
