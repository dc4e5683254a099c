import pytest
import torch
from helpers.connected_ranks import run_ranks
from torch import nn

from md2dist.networks.sync_batchnorm import SyncBatchNorm2d, synchronise_batchnorm

CPU = torch.device("cpu")


def make_model():
    torch.manual_seed(0)
    norms = nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(4))
    model = nn.Sequential(nn.Conv2d(2, 3, 3), norms[0], nn.Conv2d(3, 4, 1), norms[1]).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def draw_images():
    return 2 + torch.randn(6, 2, 5, 7, dtype=torch.float64, generator=torch.manual_seed(1))


def pass_through(model, images):
    """Output, gradients of a loss and the state after two passes in training mode."""
    model(images.flip(3))
    model.zero_grad()
    output = model(images)
    (output * torch.linspace(-1, 2, 4)[:, None, None]).square().sum().backward()
    return (
        output.detach(),
        {name: parameter.grad for name, parameter in model.named_parameters()},
        {name: value.clone() for name, value in model.state_dict().items()},
    )


def assert_close(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-10, atol=1e-10)


def test_alone_it_is_torchs_batch_norm():
    plain, synchronised = make_model(), make_model()
    synchronise_batchnorm(synchronised, CPU)
    assert isinstance(synchronised[3][0], SyncBatchNorm2d)
    assert list(synchronised.state_dict()) == list(plain.state_dict())
    whole, alone = (pass_through(model, draw_images()) for model in (plain, synchronised))
    torch.testing.assert_close(alone[0], whole[0], rtol=1e-10, atol=1e-10)
    assert_close(alone[1], whole[1])
    assert_close(alone[2], whole[2])
    outputs = [model.eval()(draw_images()) for model in (plain, synchronised)]
    torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)


def test_half_precision_keeps_its_type_and_is_normalised_in_float32():
    norm = SyncBatchNorm2d(3)
    x = 100 + torch.randn(4, 3, 8, 8, generator=torch.manual_seed(0))
    y = norm(x.bfloat16())
    assert y.dtype == torch.bfloat16
    expected = nn.BatchNorm2d(3)(x.bfloat16().float())
    torch.testing.assert_close(y.float(), expected, rtol=0.01, atol=0.02)


def test_a_large_mean_does_not_drown_the_variance():
    x = 1e4 + torch.randn(4, 3, 8, 8, generator=torch.manual_seed(0))
    torch.testing.assert_close(SyncBatchNorm2d(3)(x), nn.BatchNorm2d(3)(x), rtol=1e-3, atol=1e-3)


def train_apart(world):
    model = make_model()
    synchronise_batchnorm(model, CPU)
    share = draw_images().chunk(world.world_size)[world.rank]
    return pass_through(model, share)


@pytest.mark.slow
def test_ranks_together_normalise_as_one_rank_with_the_whole_batch():
    output, gradients, state = pass_through(make_model(), draw_images())
    shares = run_ranks(train_apart)
    torch.testing.assert_close(torch.cat([share[0] for share in shares]), output)
    summed = {name: sum(share[1][name] for share in shares) for name in gradients}
    assert_close(summed, gradients)
    for share in shares:
        assert_close(share[2], state)
