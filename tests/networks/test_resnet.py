"""ResNet encoders against a loop in float64 and torchvision's published sizes."""

import numpy as np
import pytest
import torch
from helpers.device import current_device
from reference.model import resnet_features

from md2dist.networks.resnet import ARCHITECTURES, ResNetEncoder

PUBLISHED_SIZES = {  # with the classifier
    18: 11_689_512,
    34: 21_797_672,
    50: 25_557_032,
    101: 44_549_160,
    152: 60_192_808,
}


def make_encoder(num_layers: int, num_images: int = 1) -> ResNetEncoder:
    """An encoder in eval mode and float64, with statistics that are not the initial ones."""
    torch.manual_seed(0)
    encoder = ResNetEncoder(num_layers, num_images).double().eval()
    for name, tensor in encoder.state_dict().items():
        if ".bn" in name or name.startswith("bn") or ".downsample.1" in name:
            if name.endswith(("bias", "running_mean")):
                tensor.normal_(0, 0.1)
            elif name.endswith(("weight", "running_var")):
                tensor.uniform_(0.5, 1.5)
    return encoder.to(current_device())


@pytest.mark.parametrize("num_layers", PUBLISHED_SIZES)
def test_an_encoder_has_as_many_parameters_as_the_published_one_without_its_classifier(num_layers):
    with torch.device("meta"):
        encoder = ResNetEncoder(num_layers)
    classifier = 1000 * encoder.channels[-1] + 1000
    num_parameters = sum(parameter.numel() for parameter in encoder.parameters())
    assert num_parameters == PUBLISHED_SIZES[num_layers] - classifier


@pytest.mark.parametrize(("num_layers", "num_images"), [(18, 1), (18, 2), (50, 1)])
def test_features_agree_with_the_loop_in_float64(num_layers, num_images):
    encoder = make_encoder(num_layers, num_images)
    image = torch.rand(3 * num_images, 64, 96, dtype=torch.float64)
    state = {name: tensor.cpu().numpy() for name, tensor in encoder.state_dict().items()}
    expected = resnet_features(image.cpu().numpy(), state, ARCHITECTURES[num_layers][1])
    with torch.no_grad():
        features = encoder(image[None])
    for feature, reference in zip(features, expected, strict=True):
        np.testing.assert_allclose(feature[0].cpu().numpy(), reference, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("num_layers", "channels"), [(34, (64, 64, 128, 256, 512)), (50, (64, 256, 512, 1024, 2048))]
)
def test_features_halve_the_image_from_step_to_step(num_layers, channels):
    with torch.device("meta"):
        encoder = ResNetEncoder(num_layers)
        features = encoder(torch.rand(2, 3, 64, 96))
    assert encoder.channels == channels
    assert [tuple(feature.shape) for feature in features] == [
        (2, width, 32 >> i, 48 >> i) for i, width in enumerate(channels)
    ]


def test_a_grey_of_the_mean_gives_no_response():
    encoder = make_encoder(18)
    responses = []
    encoder.conv1.register_forward_hook(lambda *call: responses.append(call[-1]))
    encoder(torch.full((1, 3, 64, 64), 0.45, dtype=torch.float64))
    assert not responses[0].any()


def test_from_scratch_convolutions_are_normal_by_fan_out_and_batch_norm_is_the_identity():
    torch.manual_seed(0)
    encoder = ResNetEncoder(50, num_images=2)
    for name, module in encoder.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            deviation = module.weight.std().item() * (fan_out / 2) ** 0.5
            assert deviation == pytest.approx(1, rel=0.03), name
            assert module.bias is None, name
        elif isinstance(module, torch.nn.BatchNorm2d):
            assert (module.weight == 1).all(), name
            assert (module.bias == 0).all(), name
            assert (module.momentum, module.eps) == (0.1, 1e-5), name


def test_every_parameter_gets_a_gradient():
    encoder = ResNetEncoder(50).to(current_device())
    sum(feature.square().mean() for feature in encoder(torch.rand(2, 3, 64, 64))).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_under_autocast_features_are_half_precision_and_statistics_stay_float32():
    encoder = ResNetEncoder(18).to(current_device())
    with torch.autocast(current_device().type, torch.bfloat16):
        features = encoder(torch.rand(2, 3, 64, 64))
    assert {feature.dtype for feature in features} == {torch.bfloat16}
    assert encoder.bn1.running_mean.dtype == torch.float32
    assert encoder.bn1.running_mean.any()
