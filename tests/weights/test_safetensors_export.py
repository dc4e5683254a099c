"""The export to safetensors, read back by md2dist's own reader."""

import sys

import pytest
import torch
from test_export import IMAGES, run_command
from test_loading import STEREO, assert_same_weights, save_run

from md2dist.errors import WeightsError
from md2dist.weights import load_model

DEPTH_RANGE = ("loss.min_depth=0.4", "loss.max_depth=80")


def export(folder, monkeypatch, *words):
    words = ["--checkpoint", folder / "run", "--output", folder / "model.safetensors", *words]
    return run_command(monkeypatch, "--format", "safetensors", *words)


@pytest.mark.parametrize(
    "overrides",
    [(), STEREO, ("data.use_stereo=true", *DEPTH_RANGE), ("network.pose_num_layers=34",)],
)
def test_a_safetensors_file_is_read_back_equal(overrides, tmp_path, monkeypatch, capsys):
    pytest.importorskip("safetensors")
    model, _ = save_run(tmp_path / "run", "precision.dtype=fp32", *overrides)
    path = tmp_path / "model.safetensors"
    assert export(tmp_path, monkeypatch) == 0
    assert capsys.readouterr().out == f"{path}\n"
    loaded = load_model(path)
    assert_same_weights(model, loaded)
    assert (loaded.height, loaded.width) == (64, 96)
    assert loaded.use_stereo == model.use_stereo
    depths = [(m.loss_config.min_depth, m.loss_config.max_depth) for m in (model, loaded)]
    assert depths[0] == depths[1]
    disparity = model.eval().predict_scaled_disparity(IMAGES)
    assert torch.equal(loaded.predict_scaled_disparity(IMAGES), disparity)


def test_a_safetensors_file_names_weights_as_the_model_does_and_its_settings(tmp_path, monkeypatch):
    safetensors = pytest.importorskip("safetensors")
    model, _ = save_run(tmp_path / "run", "data.use_stereo=true", *DEPTH_RANGE)
    assert export(tmp_path, monkeypatch) == 0
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == {*model.state_dict()}
        settings = file.metadata()
    assert settings.pop("version")
    expected = {"height": "64", "width": "96", "use_stereo": "True", "network_encoder": "resnet"}
    assert settings == expected | {"min_depth": "0.4", "max_depth": "80.0"}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ("loss.use_predictive_mask=true", "loss.use_auto_mask=false"),
            "The predictive mask is in the file, but md2dist does not read it.",
        ),
        (("network.pose_type=posecnn",), "The pose network is omitted"),
    ],
)
def test_what_is_not_read_back_is_reported_and_depth_is_the_same(
    overrides, told, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("safetensors")
    model, _ = save_run(tmp_path / "run", "precision.dtype=fp32", *overrides)
    assert export(tmp_path, monkeypatch) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(told)
    disparity = model.eval().predict_scaled_disparity(IMAGES)
    loaded = load_model(tmp_path / "model.safetensors")
    assert torch.equal(loaded.predict_scaled_disparity(IMAGES), disparity)


def test_an_existing_file_is_replaced_only_with_overwrite(tmp_path, monkeypatch, capsys):
    pytest.importorskip("safetensors")
    save_run(tmp_path / "run")
    path = tmp_path / "model.safetensors"
    path.write_text("mine")
    assert export(tmp_path, monkeypatch) == 2
    assert "model.safetensors already; name another --output" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert export(tmp_path, monkeypatch, "--overwrite") == 0
    load_model(path)


def test_a_depth_range_that_is_no_number_is_named(tmp_path, monkeypatch):
    torch_file = pytest.importorskip("safetensors.torch")
    model, _ = save_run(tmp_path / "run")
    settings = {"height": "64", "width": "96", "use_stereo": "0", "min_depth": "near"}
    torch_file.save_file(model.state_dict(), tmp_path / "x.safetensors", settings)
    with pytest.raises(WeightsError, match="invalid min_depth or max_depth; expected a number"):
        load_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("form", "missing"), [("safetensors", "safetensors"), ("onnx", "onnxruntime")]
)
def test_a_missing_library_is_named_in_one_line(form, missing, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    words = ["--checkpoint", tmp_path, "--output", tmp_path / f"model.{form}", "--format", form]
    assert run_command(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: this export needs ")
    assert "pip install " in error
    assert missing in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
