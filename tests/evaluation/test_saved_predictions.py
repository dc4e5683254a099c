import dataclasses
import re

import numpy as np
import pytest
from helpers.small_shards import write_small_shards
from PIL import Image

from md2dist.data.kitti.splits import read_split
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.manifest import SkippedDrive, read_manifest, write_manifest
from md2dist.errors import EvaluationError, SplitError
from md2dist.evaluation.depth import score_depth
from md2dist.evaluation.saved_predictions import saved_predictor

DRIVE = "2011_09_26_drive_0001_sync"


@pytest.fixture
def pack(tmp_path):
    """Packs small shards with velodyne depth, whose recipe and skipped lines may be replaced."""

    def pack(count=4, skipped=(), **changes):
        folder = write_small_shards(tmp_path / "shards", count, ground_truth="velodyne")
        manifest = read_manifest(folder)
        recipe = dataclasses.replace(manifest.recipe, **{"order": "sequential"} | changes)
        write_manifest(dataclasses.replace(manifest, recipe=recipe, skipped=skipped), folder)
        return ShardDataset(folder)

    return pack


@pytest.fixture
def disparities():
    return np.random.default_rng(0).uniform(0.02, 2, (4, 6, 10)).astype(np.float32)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def maps_of(path, dataset, quantity="disparity", **settings):
    predict = saved_predictor(path, quantity, dataset, **settings)
    samples = [dataset[index] for index in range(len(dataset))]
    return [np.asarray(values) for values in predict(range(len(dataset)), samples)]


def write_split(path, *frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"2011_09_26/{DRIVE} {frame} {'lr'[frame % 2]}\n" for frame in frames)
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("shape", [(4, 6, 10), (4, 1, 6, 10)])
def test_row_i_of_an_array_belongs_to_sample_i_of_sequential_shards(
    pack, tmp_path, disparities, shape
):
    path = save(tmp_path / "d.npy", disparities.reshape(shape))
    np.testing.assert_array_equal(maps_of(path, pack()), disparities)


def test_depth_is_inverted(pack, tmp_path, disparities):
    path = save(tmp_path / "d.npy", 1 / disparities.astype(np.float64))
    np.testing.assert_allclose(maps_of(path, pack(), "depth"), disparities, rtol=1e-15)


def test_shuffled_shards_need_the_list_in_whose_order_the_array_was_saved(
    pack, tmp_path, disparities
):
    path, dataset = save(tmp_path / "d.npy", disparities), pack(order="shuffled")
    with pytest.raises(EvaluationError, match=r"shuffled .* --order sequential, or .*-split"):
        maps_of(path, dataset)
    split = write_split(tmp_path / "list.txt", 2, 0, 3, 1)
    found = maps_of(path, dataset, predicted_split=str(split))
    np.testing.assert_array_equal(found, disparities[[1, 3, 0, 2]])


def test_predictions_for_all_of_eigen_fit_the_shards_of_its_benchmark_part(
    pack, tmp_path, disparities
):
    write_split(tmp_path / "splits" / "eigen" / "test_files.txt", 9, 0, 1, 8, 2, 3)
    path = save(tmp_path / "d.npy", disparities[[3, 0, 1, 3, 2, 3]])
    dataset = pack(split="eigen_benchmark/test")
    found = maps_of(path, dataset, splits_dir=tmp_path / "splits")
    np.testing.assert_array_equal(found, disparities)


def test_the_images_of_the_real_benchmark_are_where_the_published_index_says(shared):
    rows = {
        line.key: i for i, line in enumerate(read_split(shared / "splits/eigen/test_files.txt"))
    }
    part = read_split(shared / "splits/eigen_benchmark/test_files.txt")
    index = np.load(shared / "splits/benchmark/eigen_to_benchmark_ids.npy")
    assert [rows[line.key] for line in part] == index.tolist()


def test_predictions_for_a_whole_split_fit_shards_of_which_samples_were_skipped(
    pack, tmp_path, disparities
):
    write_split(tmp_path / "splits" / "eigen" / "test_files.txt", 0, 7, 1, 2, 3)
    path = save(tmp_path / "d.npy", disparities[[0, 0, 1, 2, 3]])
    dataset = pack(split="eigen/test", skipped=(SkippedDrive(DRIVE, "missing", 1),))
    found = maps_of(path, dataset, splits_dir=tmp_path / "splits")
    np.testing.assert_array_equal(found, disparities)


def test_another_number_of_predictions_is_refused(pack, tmp_path, disparities):
    path, dataset = save(tmp_path / "d.npy", disparities[:3]), pack()
    with pytest.raises(EvaluationError, match=r"3 predictions for the 4 samples .*-split SPLIT"):
        maps_of(path, dataset)
    split = str(write_split(tmp_path / "list.txt", 0, 1, 2, 3))
    with pytest.raises(EvaluationError, match=r"3 predictions, but split .* has 4 samples"):
        maps_of(path, dataset, predicted_split=split)
    with pytest.raises(SplitError, match="no split file nowhere"):
        maps_of(path, dataset, predicted_split="nowhere", splits_dir=tmp_path)


def test_an_image_that_the_list_of_the_predictions_lacks_is_named(pack, tmp_path, disparities):
    path = save(tmp_path / "d.npy", disparities)
    split = str(write_split(tmp_path / "list.txt", 0, 1, 2, 9))
    dataset = pack()
    predict = saved_predictor(path, "disparity", dataset, split)
    with pytest.raises(EvaluationError, match=rf"1 of 4 .* {DRIVE}_r_0000000003: split .*list it"):
        score_depth(predict, dataset, protocol="eigen", scalings=["median"])


@pytest.mark.parametrize(
    "name",
    [
        "{drive}_{side}_{frame:010d}",
        "{drive}/{camera}/data/{frame:010d}",
        "2011_09_26/{drive}/{camera}/data/{frame:010d}",
        "{drive}/{camera}/data/{frame:010d}_disparity",
    ],
)
def test_files_of_a_folder_are_found_by_name(pack, tmp_path, disparities, name):
    folder = tmp_path / "folder"
    for frame, values in enumerate(disparities):
        side, camera = "lr"[frame % 2], f"image_0{2 + frame % 2}"
        place = name.format(drive=DRIVE, side=side, camera=camera, frame=frame)
        save(folder / f"{place}.npy", values)
    np.testing.assert_array_equal(maps_of(folder, pack(order="shuffled")), disparities)


def test_depth_in_a_folder_may_be_16_bit_png(pack, tmp_path):
    counts = np.random.default_rng(0).integers(1, 1 << 15, (4, 6, 10)).astype(np.uint16)
    for frame, values in enumerate(counts):
        name = f"{DRIVE}_{'lr'[frame % 2]}_{frame:010d}_depth.png"
        Image.fromarray(values).save(tmp_path / name)
    np.testing.assert_allclose(maps_of(tmp_path, pack(), "depth"), 256 / counts, rtol=1e-6)


@pytest.mark.parametrize("ending", ["", "_depth"])
def test_depth_that_is_taken_for_disparity_is_explained_by_the_option(pack, tmp_path, ending):
    name = f"{DRIVE}_l_0000000000{ending}.png"
    Image.fromarray(np.ones((6, 10), np.uint16)).save(tmp_path / name)
    dataset = pack(1)
    (error,) = saved_predictor(tmp_path, "disparity", dataset)([0], [dataset[0]])
    assert name in str(error)
    assert "--predictions-are depth" in str(error)


def test_images_without_a_file_are_counted_and_named(pack, tmp_path, disparities):
    save(tmp_path / "p" / f"{DRIVE}_l_0000000000.npy", disparities[0])
    dataset = pack()
    predict = saved_predictor(tmp_path / "p", "disparity", dataset)
    with pytest.raises(
        EvaluationError,
        match=rf"3 of 4 images .* the first is {DRIVE}_r_0000000001: no file .*expected {DRIVE}_r_",
    ):
        score_depth(predict, dataset, protocol="eigen", scalings=["median"])


def test_a_list_of_samples_does_not_apply_to_a_folder(pack, tmp_path):
    with pytest.raises(EvaluationError, match="files are found by name"):
        saved_predictor(tmp_path, "disparity", pack(), "eigen/test")


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -0.1])
def test_predictions_that_are_not_positive_and_finite_are_counted(
    pack, tmp_path, disparities, value
):
    disparities[2] = value
    dataset = pack()
    predict = saved_predictor(save(tmp_path / "d.npy", disparities), "disparity", dataset)
    with pytest.raises(EvaluationError, match=rf"first is {DRIVE}_l_0000000002: .* of \d+ valid"):
        score_depth(predict, dataset, protocol="eigen", scalings=["median"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones((4, 6)), "float64 of shape (4, 6); expected floating-point numbers of (N, h, w)"),
        (np.ones((4, 2, 6, 10)), "of shape (4, 2, 6, 10)"),
        (np.ones((4, 0, 6)), "of shape (4, 0, 6)"),
        (np.ones((4, 6, 10), np.uint16), "uint16"),
        (np.array([{}]), "damaged, or no array"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'", "damaged, or no array"),
        (b"no array", "damaged, or no array"),
        (None, "d.npy does not exist"),
    ],
)
def test_a_file_that_is_no_array_of_maps_is_refused(pack, tmp_path, content, message):
    path = tmp_path / "d.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        save(path, content)
    with pytest.raises(EvaluationError, match=re.escape(message)):
        saved_predictor(path, "disparity", pack())


def test_a_truncated_array_and_another_format_are_refused(pack, tmp_path, disparities):
    path = save(tmp_path / "d.npy", disparities)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EvaluationError, match="damaged"):
        saved_predictor(path, "disparity", pack())
    path.rename(tmp_path / "d.npz")
    with pytest.raises(EvaluationError, match=r"d.npz is not a .npy file"):
        saved_predictor(tmp_path / "d.npz", "disparity", pack())


def test_a_depth_map_of_8_bits_is_refused(pack, tmp_path):
    Image.fromarray(np.ones((6, 10), np.uint8)).save(tmp_path / f"{DRIVE}_l_0000000000.png")
    dataset = pack(1)
    predict = saved_predictor(tmp_path, "depth", dataset)
    (error,) = predict([0], [dataset[0]])
    assert "mode L; expected 16-bit greyscale" in str(error)
