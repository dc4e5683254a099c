import os
import pickle
import threading

import numpy as np
import pytest
from helpers.small_shards import small_depth, small_image, small_info, write_small_shards

from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.image import decode_image
from md2dist.errors import ShardError


@pytest.fixture
def folder(tmp_path):
    return write_small_shards(tmp_path / "shards", ground_truth="velodyne")


@pytest.mark.parametrize("ground_truth", ["velodyne", "annotated"])
def test_every_sample_comes_back_as_it_was_packed(tmp_path, ground_truth):
    dataset = ShardDataset(write_small_shards(tmp_path, ground_truth=ground_truth))
    assert len(dataset) == 10
    for i in range(10):
        sample = dataset[i]
        assert list(sample.frames) == ["0", "-1", "+1", "s"]
        for view, pixels in sample.frames.items():
            np.testing.assert_array_equal(pixels, small_image(i, view, 32, 64))
        assert sample.info == small_info(i, 32, 64)
        assert sample.key == sample.info["key"]
        np.testing.assert_array_equal(sample.ground_truth, small_depth(i, 64, 128))


def test_samples_without_ground_truth_have_none(tmp_path):
    dataset = ShardDataset(write_small_shards(tmp_path, num_samples=1))
    assert dataset[0].ground_truth is None


@pytest.mark.parametrize("image_format", ["jpg", "webp"])
def test_other_image_formats_decode(tmp_path, image_format):
    write_small_shards(tmp_path, num_samples=1, image_format=image_format)
    frame = ShardDataset(tmp_path)[0].frames["0"]
    assert (frame.shape, frame.dtype) == ((32, 64, 3), np.uint8)
    if image_format == "webp":
        np.testing.assert_array_equal(frame, small_image(0, "0", 32, 64))


def test_indices_behave_as_in_a_sequence(folder):
    dataset = ShardDataset(folder)
    assert dataset[-1].key == dataset[9].key
    assert dataset[-10].key == dataset[0].key
    assert [sample.info["frame"] for sample in dataset] == list(range(10))
    for outside in (10, -11):
        with pytest.raises(IndexError, match=f"index {outside} is out of range for 10 samples"):
            dataset[outside]


def test_the_repr_of_a_dataset_describes_its_samples(folder):
    text = repr(ShardDataset(folder))
    for part in (str(folder), "10 samples of small", "3 shards", "32x64 png", "0 -1 +1 s"):
        assert part in text


def test_a_pickled_or_forked_dataset_reads_the_same(folder):
    dataset = ShardDataset(folder)
    first = bytes(dataset.raw(5)["0.png"])  # opens the shard
    again = pickle.loads(pickle.dumps(dataset))
    assert bytes(again.raw(5)["0.png"]) == first
    assert again.manifest.digest == dataset.manifest.digest
    child = os.fork()
    if child == 0:
        os._exit(0 if bytes(dataset.raw(5)["0.png"]) == first else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert bytes(dataset.raw(5)["0.png"]) == first


def test_threads_share_a_dataset(folder, monkeypatch):
    # With one open file at most, files close while other threads read them.
    monkeypatch.setattr("md2dist.data.shards.dataset._OPEN_FILES", 1)
    dataset = ShardDataset(folder)
    expected = [bytes(dataset.raw(i)["0.png"]) for i in range(10)]
    wrong = []

    def read(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, 10, 200).tolist():
            if bytes(dataset.raw(i)["0.png"]) != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_files_are_opened_lazily_and_their_number_is_limited(folder, monkeypatch):
    monkeypatch.setattr("md2dist.data.shards.dataset._OPEN_FILES", 2)

    def num_open() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = num_open()
    dataset = ShardDataset(folder)
    assert num_open() == before
    for i in range(10):
        dataset.raw(i)
    assert num_open() == before + 2
    del dataset
    assert num_open() == before


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ShardError, match=r"index\.json.*md2dist pack"):
        ShardDataset(tmp_path)


def test_a_missing_shard_is_named(folder):
    (folder / "shard-000001.tar").unlink()
    dataset = ShardDataset(folder)
    dataset[3]
    with pytest.raises(ShardError, match=r"shard-000001\.tar cannot be read.*again"):
        dataset[4]


def test_a_short_shard_is_named(folder):
    path = folder / "shard-000002.tar"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ShardError, match=r"shard-000002\.tar has \d+ bytes, expected \d+"):
        ShardDataset(folder)[8]


def test_a_shard_cut_while_it_is_open_is_named(folder):
    dataset = ShardDataset(folder)
    dataset[0]
    os.truncate(folder / "shard-000000.tar", 700)
    with pytest.raises(
        ShardError, match=r"sample 1 .*shard-000000\.tar is damaged.*md2dist verify"
    ):
        dataset[1]


@pytest.mark.parametrize("image_format", ["png", "jpg", "webp"])
def test_damage_anywhere_is_a_shard_error_or_unseen(tmp_path, image_format):
    write_small_shards(tmp_path, 1, image_format=image_format, ground_truth="velodyne")
    path = tmp_path / "shard-000000.tar"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(whole), 300).tolist():
        damaged = bytearray(whole)
        damaged[place : place + 4] = rng.bytes(len(damaged[place : place + 4]))
        path.write_bytes(damaged)
        try:
            ShardDataset(tmp_path)[0]
        except ShardError as error:
            refused += 1
            assert "shard-000000.tar is damaged" in str(error)  # noqa: PT017
    assert refused > 10


def test_grey_images_decode_to_three_channels(tmp_path):
    from PIL import Image

    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    decoded = decode_image((tmp_path / "grey.png").read_bytes())
    np.testing.assert_array_equal(decoded, np.repeat(pixels[..., None], 3, axis=2))
