"""Signals to the loader's workers and the end of their parent, each in its own process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.running_job import is_running
from helpers.small_shards import write_small_shards

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from md2dist.data.loading.loader import Workers, make_loader
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.topology import Topology
dataset = ShardDataset(sys.argv[1])
order = GlobalOrder(dataset.manifest.shard_sizes, seed=0, global_batch_size=2, window_shards=2)
loader = make_loader(dataset, order, Topology(), views=["0", "-1", "+1", "s"], steps=range(200),
    workers=Workers(2))
batches = iter(loader)
next(batches)
workers = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
print(*workers, flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_small_shards(tmp_path_factory.mktemp("shards"))


def start(folder: Path, ending: str) -> tuple[subprocess.Popen, list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + ending, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout
    return process, [int(worker) for worker in process.stdout.readline().split()]


def wait_until_gone(pids: list[int], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, f"workers {pids} outlive the training process"
        time.sleep(0.05)


ENDINGS = {
    "returns": "",
    "exits": "sys.exit(0)",
    "fails": "raise RuntimeError('in the middle')",
    "is interrupted within": "os.kill(os.getpid(), signal.SIGINT); next(batches)",
}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_workers_end_with_a_program_that(ending, folder):
    process, workers = start(folder, "kept = [batches]\n" + ending)
    assert len(workers) == 2
    _, errors = process.communicate(timeout=30)
    wait_until_gone(workers)
    assert "killed by signal" not in errors
    assert "Exception ignored" not in errors


@pytest.mark.slow
def test_workers_end_when_the_program_is_killed(folder):
    process, workers = start(folder, "time.sleep(60)")
    process.kill()
    process.communicate(timeout=30)
    wait_until_gone(workers)


@pytest.mark.slow
def test_workers_go_on_when_a_scheduler_signals_every_process(folder):
    ending = "sys.stdin.readline(); print(sum(1 for _ in batches))"
    process, workers = start(folder, ending)
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGINT)
    time.sleep(0.5)
    assert all(map(is_running, workers))
    output, errors = process.communicate("continue\n", timeout=60)
    assert output.strip() == "199", errors
    wait_until_gone(workers)
