"""Every kind of store yields the same samples as the folder."""

import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.file_server import serve_files
from helpers.object_store import serve_objects, upload
from helpers.remote_shards import HASTY, contents, read_all, read_folder, serve_folder
from helpers.small_shards import write_small_shards

from md2dist.data.inspection.data_card import describe_shards
from md2dist.data.inspection.descriptions import read_descriptions
from md2dist.data.inspection.verification import verify_shards
from md2dist.data.shards.dataset import ShardDataset
from md2dist.errors import ConfigError, ShardError
from md2dist.storage.cache_folder import NAME


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_small_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def server():
    with serve_files() as server:
        yield server


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def kept(cache: Path) -> list[Path]:
    return list((cache / NAME).glob("*-*-*"))


def test_a_web_server_serves_each_sample_once(server, folder, cache):
    url = serve_folder(server, folder)
    dataset = ShardDataset(url, cache_dir=cache, retry_policy=HASTY)
    dataset.check_files()
    before = len(server.ranges)
    assert contents([dataset.raw(7), dataset.raw(-1)]) == [read_folder(folder)[i] for i in (7, -1)]
    assert len(server.ranges) == before + 2
    assert all(server.ranges[before:])
    assert read_all(dataset) == read_folder(folder)
    assert len(server.ranges) == before + 10
    assert len(kept(cache)) == 10
    again = ShardDataset(url, cache_dir=cache, retry_policy=HASTY)
    before = len(server.ranges)
    assert read_all(again) == read_folder(folder)
    assert len(server.ranges) == before


def test_decoded_samples_come_in_order_and_are_fetched_ahead(server, folder, cache):
    dataset = ShardDataset(serve_folder(server, folder), cache_dir=cache, retry_policy=HASTY)
    indices, expected = [7, 2, -1, 2], ShardDataset(folder)
    samples = dataset.samples(indices)
    found = [next(samples)]
    while len(kept(cache)) < 3:
        time.sleep(0.01)
    found += samples
    for index, sample in zip(indices, found, strict=True):
        assert sample.key == expected[index].key
        for view, frame in expected[index].frames.items():
            np.testing.assert_array_equal(sample.frames[view], frame)


def test_a_web_server_without_ranges_serves_whole_shards(server, folder, cache):
    server.keeps_ranges = False
    dataset = ShardDataset(serve_folder(server, folder), cache_dir=cache, retry_policy=HASTY)
    assert dataset.reads_whole_shards
    assert read_all(dataset) == read_folder(folder)
    fetched = [path for method, path, _ in server.requests if path.endswith(".tar")]
    assert len(fetched) == len(kept(cache)) == 3


def test_a_query_string_follows_the_file_names(server, folder, cache):
    url = serve_folder(server, folder)
    for name in list(server.files):
        server.files[f"{name}?signature=a/b"] = server.files.pop(name)
    dataset = ShardDataset(f"{url}/?signature=a/b", cache_dir=cache, retry_policy=HASTY)
    assert read_all(dataset) == read_folder(folder)


def test_a_pipe_serves_whole_shards(folder, cache):
    dataset = ShardDataset(f"pipe:cat {folder}/{{}}", cache_dir=cache, retry_policy=HASTY)
    dataset.check_files()  # a command cannot report a size
    assert dataset.reads_whole_shards
    assert read_all(dataset) == read_folder(folder)
    assert len(kept(cache)) == 3


def test_a_folder_can_be_cached_too(folder, cache):
    dataset = ShardDataset(folder, cache_dir=cache)
    dataset.check_files()
    assert read_all(dataset) == read_folder(folder)
    assert len(kept(cache)) == 10
    assert ShardDataset(folder).cache_bytes is None


@pytest.mark.parametrize("cache_gb", [-1, 0, float("nan"), float("inf")])
def test_a_cache_without_a_size_limit_is_refused(folder, cache, cache_gb):
    with pytest.raises(
        ConfigError, match=rf"{cache_gb} GB: expected a finite number > 0 .*--cache-gb"
    ):
        ShardDataset(folder, cache_dir=cache, cache_gb=cache_gb)


def test_an_object_store_serves_single_samples(folder, cache, monkeypatch):
    with serve_objects() as settings:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        dataset = ShardDataset(upload(folder, settings, "a/b"), cache_dir=cache, retry_policy=HASTY)
        dataset.check_files()
        assert read_all(dataset) == read_folder(folder)
        assert len(kept(cache)) == 10
        (lost,) = (path for path in kept(cache) if path.name.startswith(shard_digest(dataset)))
        for wrong, reason in (("a", "404|NoSuchKey"), ("a/c", "404|NoSuchKey")):
            with pytest.raises(ShardError, match=rf"index\.json cannot be fetched .*{reason}"):
                ShardDataset(f"s3://shards/{wrong}", cache_dir=cache, retry_policy=HASTY)
        with pytest.raises(ShardError, match="NoSuchBucket"):
            ShardDataset("s3://another/a/b", cache_dir=cache, retry_policy=HASTY)
        lost.unlink()
    with pytest.raises(ShardError, match=r"shard-000002\.tar .* s3://shards/a/b: tried 3 times"):
        read_all(dataset)


def shard_digest(dataset: ShardDataset) -> str:
    """Returns the start of the cache key of the last shard's last sample."""
    entry = dataset.manifest.shards[-1]
    return f"{entry.sha256}-{entry.offsets[-2]}"


def test_a_remote_dataset_shows_its_address_and_pickles(server, folder, cache):
    url = serve_folder(server, folder)
    dataset = ShardDataset(url, cache_dir=cache, retry_policy=HASTY)
    assert url in repr(dataset)
    num_requests = len(server.requests)
    again = pickle.loads(pickle.dumps(dataset))
    assert len(server.requests) == num_requests
    assert contents([again.raw(3)]) == [read_folder(folder)[3]]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("ftp://host/shards", "has an unknown scheme; expected a folder, http"),
        ("s3:///prefix", "names no bucket"),
        ("pipe:cat shards", "has no {} for the name of the file"),
        ("http://127.0.0.1:9/shards", r"index\.json cannot be fetched .* tried 3 times"),
        (
            "http://exa..mple/shards",
            r"index\.json cannot be fetched from http://exa\.\.mple/.*: invalid address \(enc",
        ),
        *(
            (place, "is not a valid address; expected https://host/folder, with spaces")
            for place in (
                "http://[::1/x",
                "http:///shards",
                "http://host:90000/shards",
                "http://host:port/shards",
                "https://host/my shards",
                "https://host/größe",
            )
        ),
    ],
)
def test_an_invalid_address_is_refused(place, reason):
    with pytest.raises(ShardError, match=reason):
        ShardDataset(place, retry_policy=HASTY)


def test_without_boto3_an_object_store_names_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ShardError, match=r"needs boto3; install it with pip install boto3"):
        ShardDataset("s3://bucket/prefix")


def test_descriptions_are_read_from_a_store_without_the_images(server, folder):
    url = serve_folder(server, folder)
    assert list(read_descriptions(url)) == list(read_descriptions(folder))
    byte_ranges = [
        asked[6:].split("-") for _, path, asked in server.requests if path.endswith(".tar")
    ]
    num_bytes = sum(int(last) + 1 - int(first) for first, last in byte_ranges)
    assert num_bytes < sum(path.stat().st_size for path in folder.glob("*.tar")) / 3
    server.keeps_ranges = False
    assert list(read_descriptions(url)) == list(read_descriptions(folder))
    del server.files[f"{folder.name}/shard-000002.tar"]
    with pytest.raises(
        ShardError, match=rf"{url}/shard-000002\.tar is missing .*404.*md2dist verify"
    ):
        list(read_descriptions(url))


def test_shards_in_a_store_are_verified_and_described_like_a_folder(server, folder):
    url = serve_folder(server, folder)
    verdict = verify_shards(url, against=url)
    assert verdict.num_found == 10
    assert verdict.faults  # it shows its own frames
    assert verify_shards(url).faults == []
    assert describe_shards(url).splitlines()[1:] == describe_shards(folder).splitlines()[1:]
    name = f"{folder.name}/shard-000001.tar"
    server.files[name] = server.files[name].replace(b"IDAT", b"TADI")
    del server.files[f"{folder.name}/shard-000002.tar"]
    faults = [str(fault) for fault in verify_shards(url).faults]
    assert "shard-000001.tar: its sha256 differs from index.json" in faults
    assert any("shard-000002.tar: cannot be read" in fault and "404" in fault for fault in faults)
