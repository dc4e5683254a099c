"""Limits of the machine that stop the loader's workers: found before, or explained in one line."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.small_disk import needs_small_disk, run_on_small_disk
from helpers.small_shards import write_small_shards

from md2dist import machine_limits
from md2dist.data.loading import worker_limits
from md2dist.data.loading.loader import Workers
from md2dist.data.loading.worker_limits import check_workers
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.topology import Topology
from md2dist.errors import MachineLimitError

SHAPE = (4, 4, 32, 64, 3)
WORKERS = Workers(num_workers=2, prefetch_batches=3)
SHARED_MEMORY = Path("/dev/shm")
PROGRAM = """
import sys
from contextlib import suppress
from pathlib import Path
from md2dist.console import run_command
from md2dist.data.loading.loader import Workers, make_loader
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.loading.worker_limits import check_workers
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.topology import Topology
def main():
    dataset, workers = ShardDataset(sys.argv[1]), Workers(2, 3)
    check_workers(dataset, Topology(), workers, (4, 4, 32, 64, 3))
    order = GlobalOrder(dataset.manifest.shard_sizes, seed=0, global_batch_size=4, window_shards=2)
    batches = iter(make_loader(dataset, order, Topology(), views=["0", "-1", "+1", "s"],
        steps=range(60), workers=workers))
    computed = next(batches)
    if sys.argv[2:]:
        with open(sys.argv[2], "wb", buffering=0) as file:
            with suppress(OSError):
                while True:
                    file.write(b" " * 4096)
    for batch in batches:
        computed = batch
    print("complete")
run_command(main)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_small_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def demanded(folder, monkeypatch) -> dict[str, int]:
    """What `check_workers` demands of the machine, by the function that checks it."""
    found = {}
    for name in ("check_shared_memory", "allow_open_files", "check_processes"):
        monkeypatch.setattr(
            worker_limits, name, lambda number, purpose, name=name: found.update({name: number})
        )
    check_workers(ShardDataset(folder), Topology(), WORKERS, SHAPE)
    return found


def run_with_shared_memory(size: int, *words: object):
    run = ("-c", PROGRAM, *words)
    return run_on_small_disk(SHARED_MEMORY, str(size), 'exec "$@"', sys.executable, *run)


@needs_small_disk
@pytest.mark.slow
def test_workers_fit_into_exactly_the_shared_memory_that_is_demanded(folder, demanded):
    size = demanded["check_shared_memory"]
    done = run_with_shared_memory(size, folder)
    assert done.stdout == "complete\n", done.stderr
    done = run_with_shared_memory(size - 4096, folder)
    assert done.returncode == 2
    assert done.stderr.startswith("error: shared memory for data.num_workers=2: 1 MB free")
    assert done.stderr.count("\n") == 1


@needs_small_disk
@pytest.mark.slow
def test_shared_memory_that_fills_up_later_is_one_line(folder, demanded):
    size = 2 * demanded["check_shared_memory"]
    done = run_with_shared_memory(size, folder, SHARED_MEMORY / "other")
    assert done.returncode == 2
    assert done.stderr.startswith("error: shared memory is full; set data.num_workers=0")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_low_limit_of_open_files_is_raised_where_it_may_be(folder, demanded):
    for hard, code, message in ((1024, 0, ""), (64, 2, "error: open files for data.num_workers=2")):
        limit = f"ulimit -Sn 64; ulimit -Hn {hard}; exec "
        done = subprocess.run(
            ["sh", "-c", limit + '"$@"', "sh", sys.executable, "-c", PROGRAM, folder],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr[: len(message)]) == (code, message)
        assert done.stderr.count("\n") == (code != 0)


def test_all_ranks_of_a_node_share_its_memory_and_processes(folder, demanded):
    alone = dict(demanded)
    check_workers(ShardDataset(folder), Topology(0, 8, 0, 4), WORKERS, SHAPE)
    assert demanded["check_shared_memory"] == 4 * alone["check_shared_memory"]
    assert demanded["check_processes"] == 4 * alone["check_processes"]
    assert demanded["allow_open_files"] == alone["allow_open_files"]


def test_a_rank_without_workers_needs_nothing_of_the_machine(folder, monkeypatch):
    monkeypatch.setattr(machine_limits, "_SHARED_MEMORY", Path("/nowhere"))
    dataset = ShardDataset(folder)
    check_workers(dataset, Topology(), Workers(0), SHAPE)
    with pytest.raises(MachineLimitError, match=r"data\.num_workers=1 of 2 ranks: 0 MB free"):
        check_workers(dataset, Topology(0, 2, 0, 2), Workers(1), SHAPE)


@pytest.mark.parametrize("version", [2, 1])
def test_a_container_that_allows_too_few_processes_is_named(folder, monkeypatch, tmp_path, version):
    cgroup = tmp_path if version == 2 else tmp_path / "pids"
    cgroup.mkdir(exist_ok=True)
    (cgroup / "pids.max").write_text("30\n")
    (cgroup / "pids.current").write_text("15\n")
    monkeypatch.setattr(machine_limits, "_CGROUP", tmp_path)
    with pytest.raises(MachineLimitError, match=r"15 processes and threads left .* 20 needed"):
        check_workers(ShardDataset(folder), Topology(), WORKERS, SHAPE)
    (cgroup / "pids.max").write_text("max\n")
    check_workers(ShardDataset(folder), Topology(), WORKERS, SHAPE)


def test_the_processes_of_a_user_count_against_its_limit(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1)  # root is exempt
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1, 1))
    with pytest.raises(MachineLimitError, match=r"0 processes and threads left .* 1 needed"):
        machine_limits.check_processes(1, "data.num_workers=1")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RuntimeError("Too many open files. Communication with the workers"), "ulimit -n"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (torch.OutOfMemoryError("CUDA out of memory."), "the GPU's memory is full"),
        (RuntimeError("CPUAllocator: can't allocate memory"), "the machine's memory is full"),
        (RuntimeError("worker is killed by signal: Bus error. It is possible that dataloader's "
                      "workers are out of shared memory."), "--shm-size"),
    ],
)  # fmt: skip
def test_an_error_at_a_limit_is_explained(error, remedy):
    assert remedy in (machine_limits.explain_limit(error) or "")


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left", "file"), RuntimeError("a"), ValueError("shared memory")]
)
def test_another_error_is_not_taken_for_a_limit(error):
    assert machine_limits.explain_limit(error) is None


@pytest.mark.parametrize(
    ("folder", "limit", "used", "cached"),
    [
        (".", "max", "current", "inactive_file"),
        ("memory", "limit_in_bytes", "usage_in_bytes", "total_inactive_file"),
    ],
    ids=["v2", "v1"],
)
def test_free_memory_is_that_of_the_container_without_its_cached_files(
    monkeypatch, tmp_path, folder, limit, used, cached
):
    monkeypatch.setattr(machine_limits, "_CGROUP", tmp_path)
    of_the_machine = machine_limits.free_memory()
    assert of_the_machine > 1 << 20
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, text in ((limit, "1000"), (used, "700"), ("stat", f"anon 9\n{cached} 200")):
        (tmp_path / folder / f"memory.{name}").write_text(f"{text}\n")
    assert machine_limits.free_memory() == 500
    (tmp_path / folder / f"memory.{limit}").write_text("max\n" if folder == "." else f"{2**63}\n")
    assert machine_limits.free_memory() == pytest.approx(of_the_machine, rel=0.5)
