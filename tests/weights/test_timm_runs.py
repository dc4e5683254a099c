"""Runs whose depth encoder is a model of timm: reading, exports, first weights."""

import re
import sys

import pytest
import torch
from networks import timm_stub
from test_export import IMAGES, run_command
from test_loading import assert_same_weights, make_config, make_model, save_run

from md2dist.errors import CheckpointError, ConfigError, WeightsError
from md2dist.runs.checkpoint_folder import Checkpoint
from md2dist.runs.checkpoint_manifest import verify_checkpoint
from md2dist.training.resume_check import check_method
from md2dist.weights import export_published, initialise, load_model

FOUR = ("network.encoder=timm:four", "precision.dtype=fp32")
SHARED = (*FOUR, "network.pose_type=shared")


@pytest.fixture(autouse=True)
def timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", timm_stub)


@pytest.mark.parametrize("overrides", [FOUR, SHARED])
def test_a_run_is_loaded_with_the_encoder_that_its_settings_name(tmp_path, overrides):
    model, _ = save_run(tmp_path, *overrides)
    loaded = load_model(tmp_path)
    assert_same_weights(model, loaded)
    assert loaded.encoder.name == "timm:four"
    expected = model.eval().predict_scaled_disparity(IMAGES)
    assert torch.equal(loaded.predict_scaled_disparity(IMAGES), expected)


@pytest.mark.parametrize("pose", [(), ("network.pose_num_layers=34",)])
def test_safetensors_name_the_encoder_and_are_read_back_equal(tmp_path, monkeypatch, capsys, pose):
    pytest.importorskip("safetensors")
    model, _ = save_run(tmp_path / "run", *FOUR, *pose)
    path = tmp_path / "model.safetensors"
    words = ["--format", "safetensors", "--checkpoint", tmp_path / "run", "--output", path]
    assert run_command(monkeypatch, *words) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert_same_weights(model, load_model(path))
    other = make_model(*FOUR, *pose, seed=1)
    initialise(other, "scratch", str(path))
    assert_same_weights(model, other)


def test_the_published_files_have_no_place_for_it(tmp_path, monkeypatch, capsys):
    save_run(tmp_path / "run", *FOUR)
    output = tmp_path / "new"
    words = ["--checkpoint", tmp_path / "run", "--output", output]
    assert run_command(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert re.search("hold ResNet encoders, .* is timm:four: use --format safetensors", error)
    assert error.count("\n") == 1
    assert not list(output.glob("*.pth"))


def test_onnx_computes_the_same(tmp_path):
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    from md2dist.weights.onnx_export import export_onnx

    model = make_model(*FOUR).eval()
    assert export_onnx(model, tmp_path / "model.onnx") < 1e-4


def test_imagenet_means_the_pretrained_weights_of_timm():
    model, plain = make_model(*SHARED), make_model(*SHARED)
    initialise(model, "imagenet")
    weight = model.encoder.backbone.stages[0].weight
    assert torch.equal(weight, torch.full_like(weight, 0.25))
    initialise(plain, "scratch")
    assert not torch.equal(plain.encoder.backbone.stages[0].weight, weight)


def test_a_model_without_pretrained_weights_is_refused_with_the_remedies():
    model = make_model("network.encoder=timm:five", "network.pose_type=posecnn")
    message = "the weights of timm:five cannot be loaded: No pretrained weights exist for five; set"
    with pytest.raises(WeightsError, match=message) as caught:
        initialise(model, "imagenet")
    assert "network.weights=scratch" in str(caught.value)
    assert "HF_HUB_OFFLINE" in str(caught.value)


def test_weights_of_another_kind_of_encoder_are_refused_with_the_setting(tmp_path):
    save_run(tmp_path / "timm", *FOUR)
    resnet, _ = save_run(tmp_path / "resnet")
    export_published(resnet, tmp_path / "published")
    for path in ("resnet", "published"):
        with pytest.raises(
            WeightsError, match=r"set network\.encoder=resnet network\.num_layers=18"
        ):
            initialise(make_model(*FOUR), "scratch", str(tmp_path / path))
    with pytest.raises(WeightsError, match=r"is a timm model; the encoder .* ResNet-18: set"):
        initialise(make_model(), "scratch", str(tmp_path / "timm"))
    with pytest.raises(WeightsError, match="does not fit this model"):
        initialise(make_model("network.encoder=timm:five"), "scratch", str(tmp_path / "timm"))


def test_a_run_resumes_with_its_encoder_only(tmp_path):
    _, folder = save_run(tmp_path, *FOUR)
    checkpoint, run = Checkpoint(folder, verify_checkpoint(folder)), f"log.run_dir={tmp_path}"
    check_method(checkpoint, make_config(run, *FOUR))
    with pytest.raises(CheckpointError, match=r"with network\.encoder=timm:four, now it is"):
        check_method(checkpoint, make_config(run))


def test_a_file_that_names_another_place_than_timm_is_refused(tmp_path):
    torch_file = pytest.importorskip("safetensors.torch")
    settings = {"height": "64", "width": "96", "use_stereo": "0"}
    settings["network_encoder"] = "timm:hf_hub:someone/something"
    path = tmp_path / "x.safetensors"
    torch_file.save_file(make_model(*FOUR).state_dict(), path, settings)
    with pytest.raises((WeightsError, ConfigError), match="expected resnet, or timm: and the name"):
        load_model(path)
