"""Weights that no network can compute with are refused wherever they are read."""

import pytest
import torch
from helpers.checkpoints import resume_state, write_checkpoint
from test_loading import STEREO, make_config, make_model

from md2dist.errors import WeightsError
from md2dist.weights import (
    export_published,
    import_published,
    initialise,
    load_imagenet,
    load_model,
)

NAN, INF = float("nan"), float("inf")
WEIGHT, MEAN, VARIANCE = "conv1.weight", "bn1.running_mean", "layer1.0.bn2.running_var"


def fill(value):
    return lambda tensor: tensor.index_fill(0, torch.tensor([3]), value)


FAULTS = {
    "a weight": (WEIGHT, fill(NAN), r"1 not finite \({}\)"),
    "a mean": (MEAN, fill(INF), r"1 not finite \({}\)"),
    "a variance": (VARIANCE, fill(-INF), r"1 not finite \({}\); 1 negative variances \({}\)"),
    "a negative variance": (VARIANCE, fill(-1.0), r"1 negative variances \({}\)"),
    "overflow of half": (WEIGHT, lambda tensor: (tensor * 1e9).half(), r"1 not finite \({}\)"),
    "overflow of float": (WEIGHT, lambda tensor: tensor.double() * 1e300, r"1 not finite \({}\)"),
    "integers": (
        WEIGHT,
        torch.Tensor.int,
        r"1 of another type \({} int32 \(64, 3, 7, 7\)\); expected dense",
    ),
    "complex": (
        WEIGHT,
        lambda tensor: tensor + 1j,
        r"1 of another type \({} complex64 \(64, 3, 7, 7\)\)",
    ),
    "sparse": (WEIGHT, torch.Tensor.to_sparse, r"1 of another type \({} not dense float32 .*\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_unusable_values_of_a_published_file_are_named_and_nothing_is_loaded(tmp_path, fault):
    name, change, message = FAULTS[fault]
    export_published(make_model(*STEREO), tmp_path)
    path = tmp_path / "encoder.pth"
    state = torch.load(path)
    state[f"encoder.{name}"] = change(state[f"encoder.{name}"])
    torch.save(state, path)
    model = make_model(*STEREO, seed=1)
    before = model.encoder.conv1.weight.clone()
    words = rf"encoder\.pth .*{message.format(*[f'encoder.{name}'] * 2)}"
    with pytest.raises(WeightsError, match=words):
        import_published(model, tmp_path)
    assert torch.equal(model.encoder.conv1.weight, before)


@pytest.mark.parametrize("name", [f"encoder.{WEIGHT}", f"encoder.{MEAN}", "depth.heads.0.bias"])
def test_a_checkpoint_with_values_that_are_not_finite_is_not_used(tmp_path, name):
    model = make_model(*STEREO)
    model.state_dict()[name][0] = NAN
    checkpoint = write_checkpoint(
        tmp_path, resume_state(7), model.state_dict(), make_config(*STEREO)
    )
    for read in (load_model, lambda path: initialise(make_model(*STEREO), "scratch", str(path))):
        with pytest.raises(WeightsError, match=rf"is damaged: 1 not finite \({name}\)"):
            read(checkpoint)


def test_imagenet_weights_that_are_not_finite_are_not_used(tmp_path):
    state = make_model().encoder.state_dict()
    state[MEAN][0] = INF
    torch.save(state, tmp_path / "r18.pth")
    with pytest.raises(WeightsError, match=rf"is damaged: 1 not finite \({MEAN}\)"):
        load_imagenet(make_model(), str(tmp_path / "r18.pth"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_are_converted_to_float32(tmp_path, dtype):
    model = make_model(*STEREO)
    export_published(model, tmp_path)
    for path in tmp_path.iterdir():
        state = torch.load(path)
        floats = {name: entry for name, entry in state.items() if torch.is_tensor(entry)}
        floats = {name: entry for name, entry in floats.items() if entry.is_floating_point()}
        torch.save(state | {name: entry.to(dtype) for name, entry in floats.items()}, path)
    loaded = load_model(tmp_path)
    weight = loaded.encoder.conv1.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, model.encoder.conv1.weight.to(dtype).float())


def test_weights_beyond_the_range_of_fp16_are_refused_for_fp16_alone(tmp_path):
    model = make_model(*STEREO)
    with torch.no_grad():
        model.depth.heads[0].weight[0] = 7e4
    export_published(model, tmp_path)
    assert load_model(tmp_path, dtype="bf16").dtype == torch.bfloat16
    with pytest.raises(WeightsError, match=r"depth\.heads\.0\.weight of .* exceeds 65504"):
        load_model(tmp_path, dtype="fp16")
