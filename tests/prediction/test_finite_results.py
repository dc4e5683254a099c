"""Predictions and figures are finite, or nothing is written."""

import numpy as np
import pytest
import torch
from helpers.image_bytes import random_image

from md2dist.config import load_config
from md2dist.errors import ImageError, PredictionError
from md2dist.model import MonodepthModel
from md2dist.prediction.colour_maps import colour_disparity
from md2dist.prediction.pictures import training_panel
from md2dist.prediction.predictor import predict_files
from md2dist.storage.results import write_json


def make_model(dtype="fp32"):
    torch.manual_seed(0)
    words = ["data.height=64", "data.width=96", f"precision.dtype={dtype}"]
    return MonodepthModel.from_config(load_config([], words)).eval()


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    random_image().save(path)
    return path


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_predict_an_error_and_no_file(image, tmp_path, value):
    model = make_model()
    model.encoder.conv1.weight.data[0] = value
    with pytest.raises(PredictionError, match="not finite in fp32; use other weights"):
        list(predict_files(model, [image], tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(PredictionError, match="not finite"):
        model.predict(image)


def test_an_overflow_of_float16_is_an_error_with_the_remedy(image):
    model = make_model("fp16")
    model.encoder.conv1.weight.data *= 1e6
    with pytest.raises(PredictionError, match="not finite in fp16; use fp32"):
        model.predict(image)
    model.dtype = torch.float32
    assert np.isfinite(model.predict(image).depth).all()


@pytest.mark.parametrize("depth_format", ["png", "npy"])
@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_a_scale_that_float32_cannot_hold_writes_nothing(image, tmp_path, factor, depth_format):
    options = {"factor": factor, "depth_format": depth_format}
    with pytest.raises(PredictionError, match=r"--scale 1e[+-]300 gives depths"):
        list(predict_files(make_model(), [image], tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


def test_figures_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(ImageError, match=r"figures\.json is not written: a figure is not finite"):
        write_json(tmp_path / "figures.json", {"abs_rel": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_black_and_spoils_no_other_colour():
    disparity = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    disparity[:2] = disparity[2:4]
    expected = colour_disparity(disparity[2:])
    disparity[0], disparity[1] = np.nan, np.inf
    colours = colour_disparity(disparity)
    assert not colours[:2].any()
    np.testing.assert_array_equal(colours[2:], expected)
    assert not colour_disparity(np.full((2, 3), np.nan)).any()


@pytest.mark.filterwarnings("error")
def test_the_picture_of_a_training_that_diverges_is_drawn():
    image, nothing = torch.rand(3, 4, 6), torch.full((1, 4, 6), torch.nan)
    mask = torch.ones(4, 6, dtype=torch.bool)
    warped = torch.full((2, 3, 4, 6), torch.nan)
    panel = training_panel(image, [nothing], warped, mask, nothing[0])
    assert panel[:4, :6].any()
    assert not panel[4:8].any()
