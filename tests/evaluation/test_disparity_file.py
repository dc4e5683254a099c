import numpy as np
import pytest
import torch
from helpers.sample_list import random_samples

from md2dist.errors import EvaluationError, ImageError
from md2dist.evaluation.disparity_file import (
    DisparityWriter,
    create_disparities,
    publish_disparities,
    shape_of,
)


@pytest.fixture
def maps():
    return torch.rand(5, 3, 4, dtype=torch.float64)


def predictor(maps):
    return lambda indices, samples: [maps[index] for index in indices]


def test_rows_of_several_writers_are_one_array_that_numpy_reads(tmp_path, maps):
    path = tmp_path / "d.npy"
    partial = create_disparities(path, (5, 3, 4))
    writers = [DisparityWriter(partial) for _ in range(2)]
    found = writers[0].recording(predictor(maps))([0, 4], [None, None])
    writers[1].recording(predictor(maps))([3, 1, 2], [None] * 3)
    assert found[1] is not None
    for writer in writers:
        writer.close()
    assert not path.exists()
    publish_disparities(partial, path)
    array = np.load(path)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, maps.float())
    assert list(tmp_path.iterdir()) == [path]


def test_a_map_of_another_size_and_a_name_without_suffix_are_refused(tmp_path, maps):
    writer = DisparityWriter(create_disparities(tmp_path / "d.npy", (5, 3, 4)))
    with pytest.raises(EvaluationError, match="prediction 2 has 3x2 pixels, the first one 3x4"):
        writer.write(2, maps[2, :, :2])
    writer.close()
    with pytest.raises(ImageError, match=r"d.npz: expected a name that ends in .npy"):
        create_disparities(tmp_path / "d.npz", (5, 3, 4))


def test_an_image_without_prediction_is_not_written(tmp_path, maps):
    partial = create_disparities(tmp_path / "d.npy", (5, 3, 4))
    writer = DisparityWriter(partial)
    error = EvaluationError("none")
    assert writer.recording(lambda indices, samples: [error])([0], [None]) == [error]
    writer.close()
    assert not np.load(partial).any()


def test_a_machine_that_does_not_share_the_folder_is_told_so(tmp_path):
    with pytest.raises(ImageError, match="cannot be written: No such file"):
        DisparityWriter(tmp_path / "elsewhere")


def test_a_full_disk_is_one_line(tmp_path, maps, monkeypatch):
    writer = DisparityWriter(create_disparities(tmp_path / "d.npy", (5, 3, 4)))
    monkeypatch.setattr("os.pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(ImageError, match="cannot be written: No space left"):
        writer.write(0, maps[0])


def test_the_shape_is_that_of_the_first_prediction(maps):
    samples = random_samples(np.random.default_rng(0), 5)
    assert shape_of(predictor(maps), samples) == (5, 3, 4)
    with pytest.raises(EvaluationError, match="sample_0: no file"):
        shape_of(lambda indices, samples: [EvaluationError("no file")], samples)
