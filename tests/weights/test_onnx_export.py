"""The export to ONNX, run by ONNX Runtime."""

import numpy as np
import pytest
import torch
from helpers.documents import ROOT, blocks_of
from PIL import Image
from test_export import run_command
from test_loading import STEREO, make_model, save_run

from md2dist.weights import export_published, load_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a model as published files, street.jpg, and the model as model.onnx."""
    from md2dist.weights.onnx_export import export_onnx

    folder = tmp_path_factory.mktemp("onnx")
    export_published(make_model(*STEREO), folder / "published")
    difference = export_onnx(load_model(folder / "published"), folder / "model.onnx")
    assert 0 <= difference < 1e-4
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(pixels).resize((180, 120)).save(folder / "street.jpg")
    return folder


@pytest.mark.parametrize("num_images", [1, 2, 5])
def test_onnx_runtime_computes_the_scaled_disparity_of_any_batch(exported, num_images):
    images = torch.rand(num_images, 3, 64, 96, generator=torch.Generator().manual_seed(7))
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    [disparity] = session.run(["scaled_disparity"], {"images": images.numpy()})
    expected = load_model(exported / "published").predict_scaled_disparity(images)
    assert disparity.shape == (num_images, 1, 64, 96)
    assert np.abs(disparity - expected.numpy()).max() < 1e-5


def test_the_file_states_opset_and_settings_and_no_folder_of_this_machine(exported):
    model = onnx.load(exported / "model.onnx")
    [opset] = model.opset_import
    assert opset.version == 18
    settings = {entry.key: entry.value for entry in model.metadata_props}
    assert settings.pop("version")
    expected = {"height": "64", "width": "96", "use_stereo": "True", "scale": "5.4"}
    expected["network_encoder"] = "resnet"
    assert settings == expected | {"min_depth": "0.1", "max_depth": "100.0"}
    content = (exported / "model.onnx").read_bytes()
    assert str(ROOT).encode() not in content
    assert b"site-packages" not in content


def test_the_example_of_the_document_predicts_the_depth_that_md2dist_predicts(
    exported, monkeypatch
):
    monkeypatch.chdir(exported)
    [block] = blocks_of("python", "docs/deployment.md")
    names = {}
    exec(block, names)
    expected = load_model("published").predict("street.jpg").depth
    assert names["depth"].shape == (120, 180)
    assert np.allclose(names["depth"], expected, rtol=1e-3)


def test_the_command_prints_the_difference(tmp_path, monkeypatch, capsys):
    save_run(tmp_path / "run", "precision.dtype=bf16", "loss.min_depth=0.4")
    path = tmp_path / "new" / "model.onnx"
    words = ["--checkpoint", tmp_path / "run", "--format", "onnx", "--output", path]
    assert run_command(monkeypatch, *words) == 0
    captured = capsys.readouterr()
    said = captured.out.splitlines()
    assert said[0] == str(path)
    assert said[1].startswith("Largest difference between ONNX Runtime and torch: ")
    assert len(said) == 2
    assert captured.err == ""
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_differs_from_torch_is_refused_and_not_written(tmp_path, monkeypatch, capsys):
    from md2dist.weights import onnx_export

    other = make_model(seed=5).eval()
    content = onnx_export._convert(other)
    monkeypatch.setattr(onnx_export, "_convert", lambda model: content)
    export_published(make_model(), tmp_path / "published")
    path = tmp_path / "new" / "model.onnx"
    words = ["--checkpoint", tmp_path / "published", "--format", "onnx", "--output", path]
    assert run_command(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert "model.onnx is not written: ONNX Runtime and torch differ by" in error
    assert error.count("\n") == 1
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("name", ["folder", "model.pth"])
def test_another_suffix_is_refused(name, tmp_path, monkeypatch, capsys):
    words = ["--checkpoint", tmp_path, "--format", "onnx", "--output", tmp_path / name]
    assert run_command(monkeypatch, *words) == 2
    assert "expected a name that ends in .onnx" in capsys.readouterr().err
