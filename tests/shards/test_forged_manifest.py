"""Manifests that were not written by md2dist, or not honestly."""

import json
import os
from operator import itemgetter

import pytest
from helpers.file_server import serve_files
from helpers.small_shards import write_small_shards

from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.manifest import (
    MANIFEST_NAME,
    MAX_BYTES,
    SkippedDrive,
    read_manifest,
    write_manifest,
)
from md2dist.errors import ShardError
from md2dist.storage.retries import RetryPolicy

FAST = RetryPolicy(num_tries=2, first_wait=0.01, timeout=5)


@pytest.fixture
def folder(tmp_path):
    return write_small_shards(tmp_path / "shards")


def forge(folder, *path, value):
    """Replaces the value at a path of keys and indices of the manifest; None removes it."""
    stored = json.loads((folder / MANIFEST_NAME).read_bytes())
    place = stored
    for key in path[:-1]:
        place = itemgetter(key)(place)
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (folder / MANIFEST_NAME).write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "../../stolen"),
        ("sha256", "/tmp/stolen"),
        ("sha256", ".ledger"),
        ("sha256", 7),
        ("sha256", "A" * 64),
        ("sha256", "a" * 64 + "\n"),
        ("name", "../../stolen.tar"),
        ("name", "/etc/passwd"),
        ("name", "shard\0.tar"),
        ("name", ""),
        ("name", "x" * 300),
        ("name", 7),
        ("num_bytes", -1),
        ("num_bytes", 2**62),
        ("num_bytes", 1e9),
        ("num_bytes", 10),
        ("count", -1),
        ("count", 10**9),
        ("count", True),
        ("offsets", []),
        ("offsets", [0, 1024, 2048, 2048, 4096]),
        ("offsets", [4096, 3072, 2048, 1024, 0]),
        ("offsets", [-1024, 0, 2048, 4096, 8192]),
        ("offsets", [0, 4096, 8192, 16384, 2**40]),
        ("offsets", [0, 4096, 8192, 16384, 2**64]),
        ("offsets", [0, 4096, 8192, 16384, 1e5]),
        ("offsets", {"0": 1}),
        ("crc32", "0" * 31),
        ("crc32", "0 " * 16),
        ("crc32", None),
    ],
)
def test_an_entry_that_no_packing_writes_is_refused(folder, field, value):
    forge(folder, "shards", 1, field, value=value)
    with pytest.raises(ShardError, match=r"index\.json is damaged \(shards\.1.*md2dist pack"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 0),
        ("height", 10**6),
        ("height", None),
        ("width", "64"),
        ("frame_offsets", [1, -1]),
        ("frame_offsets", [0]),
        ("frame_offsets", [10**5]),
        ("frame_offsets", "../x"),
        ("image_format", "eps"),
        ("image_quality", 101),
        ("use_stereo", 1),
        ("ground_truth", "../x"),
        ("split", 3),
        ("seed", -1),
    ],
)
def test_a_recipe_that_no_packing_writes_is_refused(folder, field, value):
    forge(folder, "recipe", field, value=value)
    with pytest.raises(ShardError, match=rf"index\.json is damaged \(recipe\.{field}"):
        read_manifest(folder)


def test_a_recipe_with_only_one_side_of_the_size_is_refused(folder):
    stored = json.loads((folder / MANIFEST_NAME).read_bytes())
    stored["recipe"]["width"] = None
    (folder / MANIFEST_NAME).write_text(json.dumps(stored))
    with pytest.raises(ShardError, match="only one of height and width"):
        read_manifest(folder)


@pytest.mark.parametrize("digest", ["../../stolen", "/stolen", ".ledger", 7, "x" * 64])
def test_a_served_manifest_writes_nothing_outside_the_cache(tmp_path, folder, digest):
    cache = tmp_path / "a" / "cache"
    forge(folder, "shards", 0, "sha256", value=digest)
    before = sorted(path for path in tmp_path.rglob("*") if cache not in path.parents)
    with serve_files() as server:
        server.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(ShardError, match=r"index\.json is damaged \(shards\.0\.sha256 is"):
            ShardDataset(server.url, cache_dir=cache, retry_policy=FAST)[0]
    assert sorted(path for path in tmp_path.rglob("*") if cache not in path.parents) == before


def test_a_list_of_ten_million_offsets_is_refused(folder):
    offsets = f"[{','.join('0' * 10_000_000)}]"
    forge(folder, "shards", 0, "offsets", value="OFFSETS")
    text = (folder / MANIFEST_NAME).read_text()
    (folder / MANIFEST_NAME).write_text(text.replace('"OFFSETS"', offsets))
    with pytest.raises(ShardError, match="has 4 samples, but 10000000 offsets"):
        read_manifest(folder)


def test_a_manifest_is_read_only_up_to_its_bound(folder):
    os.truncate(folder / MANIFEST_NAME, 1 << 40)  # sparse
    with pytest.raises(ShardError, match=rf"index\.json cannot be read .*larger than {MAX_BYTES}"):
        read_manifest(folder)


@pytest.mark.parametrize("target", ["/dev/zero", "pipe"])
def test_a_manifest_that_never_ends_is_refused(folder, target):
    (folder / MANIFEST_NAME).unlink()
    os.mkfifo(folder / "pipe")
    (folder / MANIFEST_NAME).symlink_to(target)
    with pytest.raises(
        ShardError, match=r"index\.json cannot be read \(it is not a regular file\)"
    ):
        read_manifest(folder)


def test_names_that_are_no_text_do_not_make_a_manifest_that_cannot_be_read(folder):
    manifest = read_manifest(folder)
    recipe = vars(manifest.recipe) | {"split": "list-\udcff.txt"}
    skipped = (SkippedDrive("a 1 l", "no file \udcff"),)
    changed = type(manifest)(type(manifest.recipe)(**recipe), manifest.shards, skipped)
    write_manifest(changed, folder)
    assert read_manifest(folder).recipe.split == "list-?.txt"
    assert read_manifest(folder).skipped == (("a 1 l", "no file ?", 1),)


def test_more_samples_than_a_manifest_may_list_are_refused_before_it_is_written(
    folder, monkeypatch
):
    before = (folder / MANIFEST_NAME).read_bytes()
    parsed = read_manifest(folder)
    monkeypatch.setattr("md2dist.data.shards.manifest.MAX_BYTES", 100)
    with pytest.raises(ShardError, match="expected at most 100; split the list"):
        write_manifest(parsed, folder)
    assert (folder / MANIFEST_NAME).read_bytes() == before
