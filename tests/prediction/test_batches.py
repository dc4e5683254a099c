"""Batches give the results of one image at a time, whatever the sizes, and hide no error."""

import numpy as np
import pytest
import torch
from helpers.image_bytes import random_image
from test_finite_results import make_model

from md2dist.data.image_reader import read_image
from md2dist.data.image_size import count_pixels
from md2dist.errors import ConfigError, PredictionError
from md2dist.prediction.batches import group_by_pixels
from md2dist.prediction.predictor import predict_files
from md2dist.prediction.result_files import PredictionOptions

SIZES = [(24, 40), (70, 130), (24, 40), (5, 300), (64, 96), (1, 1), (90, 30)]


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(len(SIZES))]
    for number, (path, size) in enumerate(zip(paths, SIZES, strict=True)):
        random_image(*size, seed=number).save(path)
    return paths


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_of_images_of_different_sizes_equal_single_ones(
    model, images, tmp_path, batch_size
):
    options = PredictionOptions(with_pictures=False, with_disparity=True)
    output = tmp_path / "out"
    written = predict_files(
        model, images, output, depth_format="npy", options=options, batch_size=batch_size
    )
    for number, path in enumerate(written):
        assert path == output / f"{number}_depth.npy"
        expected = model.predict_image(read_image(images[number]))
        found = np.load(output / f"{number}_disparity.npy")
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_array_equal(np.load(path), 1 / found)
    assert len(list(output.iterdir())) == 2 * len(SIZES)


def test_unreadable_images_are_reported_in_their_place(model, images, tmp_path):
    for number in (0, 3, 6):
        images[number].write_bytes(b"no image")
    events = []
    for path in predict_files(
        model, images, tmp_path / "out", on_unreadable=lambda e: events.append(str(e)), batch_size=2
    ):
        events.append(path.name)
    assert [event.endswith("_depth.png") for event in events] == [n % 3 > 0 for n in range(7)]
    assert [f"{n}.png cannot be read" in events[n] for n in (0, 3, 6)] == [True] * 3


def test_a_disparity_that_is_not_finite_ends_the_run_after_the_images_before(
    model, images, tmp_path, monkeypatch
):
    def predict(frames, sizes):
        maps = [np.full(size, 0.5, np.float32) for size in sizes]
        if (5, 300) in sizes:
            maps[sizes.index((5, 300))][2, 7] = np.nan
        return maps

    monkeypatch.setattr(model, "predict_maps", predict)
    written, paths = [], predict_files(model, images, tmp_path / "out", batch_size=2)
    with pytest.raises(PredictionError, match="not finite in fp32"):
        written.extend(path.name for path in paths)
    assert written == ["0_depth.png", "1_depth.png", "2_depth.png"]
    assert not list((tmp_path / "out").glob("3_*"))


def test_large_images_make_small_batches(tmp_path):
    sizes = [1, 1, 1, 9_000_000, 9_000_000, 60_000_000, 1, 1]
    groups = list(group_by_pixels(range(8), sizes.__getitem__, 3))
    assert groups == [[0, 1, 2], [3], [4], [5], [6, 7]]
    with pytest.raises(ConfigError, match="--batch-size 0: expected >= 1"):
        list(group_by_pixels([], len, 0))


def test_an_error_of_the_items_comes_after_the_batch_that_was_begun():
    def items():
        yield from range(5)
        raise OSError("gone")

    groups = group_by_pixels(items(), lambda _: 1, 3)
    assert [next(groups), next(groups)] == [[0, 1, 2], [3, 4]]
    with pytest.raises(OSError, match="gone"):
        next(groups)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pixels_are_counted_without_decoding(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    random_image(30, 50).save(path)
    path.write_bytes(path.read_bytes()[:700])
    assert count_pixels(path) == 1500
    path.write_bytes(b"no image")
    assert count_pixels(path) == 0
    assert count_pixels(tmp_path / "nowhere") == 0


def test_prediction_in_channels_last_equals_that_in_training_order(model):
    images = torch.rand(2, 3, 64, 96)
    expected = model.depth(model.encoder(images))[0].detach()  # with gradients: contiguous
    low, high = 1 / model.loss_config.max_depth, 1 / model.loss_config.min_depth
    found = (model.predict_scaled_disparity(images) - low) / (high - low)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
