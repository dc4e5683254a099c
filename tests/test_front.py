"""The public names of `import md2dist`, as used at a Python prompt."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import md2dist
from md2dist.errors import ShapeError
from md2dist.weights import export_published

WIDTH, HEIGHT = 96, 64


@pytest.fixture(params=["mono", "stereo"])
def folder(request, tmp_path):
    """A folder of published files, of a model trained with or without stereo."""
    words = ["data.height=64", "data.width=96", "precision.dtype=fp32"]
    words += [f"data.use_stereo={str(request.param == 'stereo').lower()}"]
    model = md2dist.MonodepthModel.from_config(md2dist.load_config([], words))
    export_published(model, tmp_path / request.param)
    return tmp_path / request.param


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    return Image.fromarray(pixels)


def test_importing_the_package_loads_nothing_but_the_standard_library():
    program = (
        "import sys; before = set(sys.modules); import md2dist; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {*sys.stdlib_module_names, "md2dist"}


def test_every_public_name_can_be_imported_and_is_listed():
    for name in md2dist.__all__:
        assert getattr(md2dist, name).__name__ == name
        assert name in dir(md2dist)
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        md2dist.load_modle  # noqa: B018


def test_a_loaded_model_predicts_depth_and_disparity_of_an_image_of_any_size(folder, image):
    model = md2dist.load_model(folder)
    depth, disparity, is_metric = model.predict(image)
    assert is_metric == (folder.name == "stereo")
    assert depth.shape == disparity.shape == (37, 50)
    assert depth.dtype == disparity.dtype == np.float32
    assert ((disparity > 0) & (disparity < 1)).all()
    scaled_disparity = 1 / 100 + (1 / 0.1 - 1 / 100) * disparity.astype(np.float64)
    factor = 5.4 if is_metric else 1.0
    np.testing.assert_allclose(depth, factor / scaled_disparity, rtol=1e-5)
    np.testing.assert_allclose(scaled_disparity, model.predict_image(image), rtol=1e-5)


def test_an_array_is_predicted_as_its_image_is(folder, image):
    model = md2dist.load_model(folder)
    for first, second in zip(model.predict(image), model.predict(np.array(image)), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("array", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.float32)])
def test_an_array_that_is_not_an_image_is_refused(folder, array):
    with pytest.raises(ShapeError, match=r"expected uint8 of \(H, W, 3\)"):
        md2dist.load_model(folder).predict(array)


def test_the_package_is_marked_as_typed():
    assert (Path(md2dist.__file__).parent / "py.typed").exists()
