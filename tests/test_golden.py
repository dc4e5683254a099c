"""The whole model against the tensors of the reference: outputs, losses and gradients."""

import pytest
import torch
from helpers.golden import Golden, published_key

FILES = ("mono_r18", "stereo_r18")


def relative_error(ours, theirs):
    theirs = theirs.double()
    return ((ours.detach().double() - theirs).abs().max() / theirs.abs().max()).item()


@pytest.fixture(scope="module", params=FILES)
def golden(request, shared):
    """A golden file, after one forward and backward pass in training mode and float64."""
    golden = Golden(shared / "golden" / f"{request.param}.npz")
    golden.output = golden.model.train()(golden.batch())
    golden.output.loss.backward()
    return golden


def test_losses_and_disparities_agree_in_float64(golden):
    assert relative_error(golden.output.loss, golden["loss"]) < 1e-9
    for scale in range(4):
        assert relative_error(golden.output.scale_losses[scale], golden[f"loss_{scale}"]) < 1e-9
        assert relative_error(golden.output.disparities[scale], golden[f"disp_{scale}"]) < 1e-9


def test_transforms_and_warped_images_agree_in_float64(golden):
    for index, name in enumerate(golden.sources):
        T = golden["stereo_T" if name == "s" else f"T_{name}"]
        assert relative_error(golden.output.T_source_target[:, index], T) < 1e-9
        warped = golden.output.warped[:, index]
        assert relative_error(warped, golden[f"warped_{name}_0"]) < 1e-6


def test_the_norm_of_every_gradient_agrees_in_float64(golden):
    names = set()
    for network, module in golden.model.named_children():
        for key, parameter in module.named_parameters():
            name = f"gradnorm/{network}.{published_key(network, key)}"
            names.add(name)
            assert relative_error(parameter.grad.norm(), golden[name]) < 1e-9, name
    assert names == {name for name in golden.tensors.files if name.startswith("gradnorm/")}


def test_predictions_in_eval_mode_agree_with_the_statistics_left_by_one_step(golden):
    model, batch = golden.model.eval(), golden.batch()
    scaled = model.predict_scaled_disparity(batch.target)
    lowest, highest = 1 / 100, 1 / 0.1
    expected = lowest + (highest - lowest) * golden["eval_disp_0"]
    assert relative_error(scaled, expected) < 1e-9
    if golden.is_mono:
        pair = torch.cat((batch.sources[:, 0], batch.target), dim=1)
        axis_angle, translation = model.pose(model.pose_encoder(pair)[-1])
        assert relative_error(axis_angle, golden["eval_axisangle"][:, 0, 0]) < 1e-9
        assert relative_error(translation, golden["eval_translation"][:, 0, 0]) < 1e-9
        T = model.predict_transform(batch.sources[:, 0], batch.target)
        assert relative_error(T[:, :3, 3], golden["eval_translation"][:, 0, 0]) < 1e-9


@pytest.mark.parametrize("file", FILES)
def test_float32_agrees_within_its_precision(file, shared):
    golden = Golden(shared / "golden" / f"{file}.npz", torch.float32)
    output = golden.model.train()(golden.batch())
    assert relative_error(output.loss, golden["loss"]) < 1e-5
    for scale in range(4):
        assert relative_error(output.disparities[scale], golden[f"disp_{scale}"]) < 1e-3
    for index, name in enumerate(golden.sources):
        assert (output.warped[:, index] - golden[f"warped_{name}_0"]).abs().max() < 1e-3


@pytest.mark.parametrize("file", FILES)
def test_bf16_networks_stay_close_and_everything_after_them_is_float32(file, shared):
    golden = Golden(shared / "golden" / f"{file}.npz", torch.float32, precision="bf16")
    output = golden.model.train()(golden.batch())
    for tensor in (output.loss, output.scale_losses, *output.disparities, *output[3:5]):
        assert tensor.dtype == torch.float32
    assert relative_error(output.loss, golden["loss"]) < 0.02
    for scale in range(4):
        difference = output.disparities[scale] - golden[f"disp_{scale}"]
        assert difference.abs().mean() < 0.02
