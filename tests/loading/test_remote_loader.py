"""Ranks and workers of a node that read from stores through one cache."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.file_server import serve_files
from helpers.object_store import serve_objects, upload
from helpers.remote_shards import serve_folder
from helpers.small_shards import write_small_shards

from md2dist.data.loading.loader import make_loader
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.loading.read_plan import check_cache, plan_reading
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.files import CachedFiles
from md2dist.data.shards.manifest import read_manifest, write_manifest
from md2dist.distributed.topology import Topology
from md2dist.errors import ShardError
from md2dist.storage.cache import ShardCache
from md2dist.storage.open_store import FolderStore
from md2dist.storage.retries import BACKGROUND

NUM_SAMPLES = 40  # in ten shards
RANK = """
import hashlib, sys
from md2dist.data.loading.loader import Workers, make_loader
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.topology import Topology
place, rank, cache = sys.argv[1], int(sys.argv[2]), sys.argv[3] or None
dataset = ShardDataset(place, cache_dir=cache, cache_gb=0.002)
order = GlobalOrder(dataset.manifest.shard_sizes, seed=0, global_batch_size=4, window_shards=3)
loader = make_loader(dataset, order, Topology(rank, 2, rank, 2), views=["0", "-1", "+1", "s"],
    steps=range(order.num_steps), workers=Workers(2))
for batch in loader:
    content = b"".join(field.numpy().tobytes() for field in batch)
    print(batch.sample_id.tolist(), hashlib.sha256(content).hexdigest(), flush=True)
"""


def start_rank(place: str | Path, rank: int, cache: Path | str, **variables) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", RANK, str(place), str(rank), str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )


def read_with_two_ranks(place: str | Path, cache: Path | str = "", **variables) -> list[str]:
    ranks = [start_rank(place, rank, cache, **variables) for rank in range(2)]
    outputs = []
    for process in ranks:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        outputs.append(output)
    return outputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_small_shards(tmp_path_factory.mktemp("shards"), NUM_SAMPLES)


@pytest.mark.slow
def test_two_ranks_with_two_workers_read_the_same_from_every_store(folder, tmp_path):
    expected = read_with_two_ranks(folder)
    assert [len(output.splitlines()) for output in expected] == [10, 10]
    with serve_files() as server:
        url = serve_folder(server, folder)
        assert read_with_two_ranks(url, tmp_path / "samples") == expected
        asked = [(path, part) for _, path, part in server.requests if path.endswith(".tar")]
        assert len(asked) == len(set(asked)) == NUM_SAMPLES  # none by two of them
        server.keeps_ranges = False
        server.requests.clear()
        assert read_with_two_ranks(url, tmp_path / "shards") == expected
        asked = [path for _, path, _ in server.requests if path.endswith(".tar")]
        assert len(asked) == len(set(asked)) == 10  # one fetches, four read
    with serve_objects() as settings:
        url = upload(folder, settings, "kitti")
        assert read_with_two_ranks(url, tmp_path / "objects", **settings) == expected
    assert read_with_two_ranks(f"pipe:cat {folder}/{{}}", tmp_path / "pipe") == expected


@pytest.mark.slow
def test_a_rank_killed_while_it_fetches_leaves_a_cache_that_the_next_one_uses(folder, tmp_path):
    expected = read_with_two_ranks(folder)
    with serve_files() as server:
        url = serve_folder(server, folder)
        server.faults += [""] * 12 + ["stall:5000"] * 20
        victim = start_rank(url, 0, tmp_path / "cache")
        while len(server.requests) < 16:
            assert victim.poll() is None
        victim.send_signal(signal.SIGKILL)
        victim.communicate(timeout=60)
        server.faults.clear()
        server.end_of_stalls.set()
        assert read_with_two_ranks(url, tmp_path / "cache") == expected


def order_of(dataset: ShardDataset, window_shards: int = 3) -> GlobalOrder:
    sizes = dataset.manifest.shard_sizes
    return GlobalOrder(sizes, seed=0, global_batch_size=8, window_shards=window_shards)


def plan(dataset: ShardDataset, num_nodes: int, epoch: int = 0):
    topology = Topology(world_size=4, node_size=4 // num_nodes, grad_accum_steps=2)
    return plan_reading(dataset, order_of(dataset), epoch, topology)


def test_the_plan_counts_the_bytes_that_the_ranks_of_a_node_fetch(folder, tmp_path):
    with serve_files() as server:
        url = serve_folder(server, folder)
        dataset = ShardDataset(url, cache_dir=tmp_path / "cache")
        order = order_of(dataset)
        for rank in (0, 1):
            loader = make_loader(
                dataset,
                order,
                Topology(rank, 4, rank, node_size=2, grad_accum_steps=2),
                views=["0", "-1", "+1", "s"],
                steps=range(order.num_steps),
            )
            assert len(list(loader)) == 10
        fetched = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*/*-*-*"))
        counted = plan(dataset, num_nodes=2)
        assert counted.num_bytes == fetched
        assert (counted.num_samples, counted.total_samples) == (20, NUM_SAMPLES)
        assert plan(dataset, num_nodes=1).num_samples == NUM_SAMPLES
        assert "20 of 40 samples, 0.00" in str(counted)


def test_the_plan_counts_whole_shards_where_the_store_gives_no_less(folder, tmp_path):
    dataset = ShardDataset(f"pipe:cat {folder}/{{}}", cache_dir=tmp_path)
    counted = plan(dataset, num_nodes=4)
    assert counted.num_samples == 10
    assert counted.num_bytes > 2 * plan(ShardDataset(folder), num_nodes=4).num_bytes
    assert plan(dataset, num_nodes=1).num_bytes == counted.total_bytes


def test_a_cache_too_small_for_whole_shards_is_refused_before_the_first(folder, tmp_path):
    def open_pipe(cache_gb: float) -> ShardDataset:
        return ShardDataset(f"pipe:cat {folder}/{{}}", cache_dir=tmp_path, cache_gb=cache_gb)

    check_cache(open_pipe(0.001), window_shards=4)
    with pytest.raises(ShardError, match=r"two windows of 5 shards take 0\.00\d GB.*lower data\."):
        check_cache(open_pipe(0.001), window_shards=5)
    check_cache(ShardDataset(folder, cache_dir=tmp_path, cache_gb=1e-6), window_shards=5)


def test_a_window_of_many_whole_shards_is_fetched_once(tmp_path, monkeypatch):
    options = {"samples_per_shard": 2, "frame_offsets": (), "use_stereo": False}
    many = write_small_shards(tmp_path / "many", 600, 8, 8, **options)
    sizes = [shard.num_bytes for shard in read_manifest(many).shards]
    fetched, read = [], FolderStore.read

    def read_and_count(store, name, byte_range):
        fetched.append(name)
        return read(store, name, byte_range)

    monkeypatch.setattr(FolderStore, "has_ranges", lambda store, name: False)
    monkeypatch.setattr(FolderStore, "read", read_and_count)
    cache_gb = 2 * 100 * max(sizes) / 1e9
    dataset = ShardDataset(many, cache_dir=tmp_path / "cache", cache_gb=cache_gb)
    check_cache(dataset, window_shards=100)
    ids = order_of(dataset, window_shards=100).epoch_ids(0)
    assert len(list(dataset.stream(ids.tolist()))) == len(dataset)
    assert len(fetched) == len(set(fetched)) == 300


def test_a_window_of_more_whole_shards_than_can_be_open_is_refused(folder, tmp_path):
    manifest = read_manifest(folder)
    write_manifest(replace(manifest, shards=600 * manifest.shards[:1]), tmp_path)
    dataset = ShardDataset(f"pipe:cat {tmp_path}/{{}}", cache_dir=tmp_path)
    check_cache(dataset, window_shards=512)
    with pytest.raises(ShardError, match=r"512 can be open .* data\.window_shards=513; lower it"):
        check_cache(dataset, window_shards=513)
    check_cache(ShardDataset(tmp_path, cache_dir=tmp_path), window_shards=513)


@pytest.mark.parametrize("num_sharers", [1, 4])
def test_the_files_that_all_workers_of_a_node_hold_fit_twice_into_the_cache(
    folder, tmp_path, num_sharers
):
    cache = ShardCache(tmp_path, 10**6)
    files = CachedFiles(FolderStore(folder), read_manifest(folder), cache, BACKGROUND)
    assert 2 * num_sharers * files.read_ahead_limits(num_sharers).num_bytes == cache.max_bytes


def test_a_tiny_cache_of_samples_still_gives_all_of_them(folder, tmp_path):
    dataset = ShardDataset(folder, cache_dir=tmp_path, cache_gb=1e-6)
    keys = [sample["__key__"] for sample in dataset.stream(range(NUM_SAMPLES))]
    assert keys == [ShardDataset(folder)[i].key for i in range(NUM_SAMPLES)]
    assert len(list(tmp_path.glob("*/*-*-*"))) <= 3
