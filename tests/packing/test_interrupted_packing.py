"""Packing that is killed, interrupted, or runs out of disk space."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.kitti_tree import write_kitti_tree
from helpers.packing_command import command, finished_names, make_shards, request
from helpers.running_job import is_running
from helpers.small_disk import needs_small_disk, run_on_small_disk

from md2dist.data.packing.finished import FINISHED_NAME
from md2dist.data.packing.folder import PACKING_NAME
from md2dist.data.shards.manifest import MANIFEST_NAME

pytestmark = pytest.mark.slow
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def children_of(process_id: int) -> list[int]:
    found = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(child) for child in found.split()]


@pytest.fixture
def long_request(tmp_path):
    """Options of a packing that takes seconds and has several shards."""
    lines = write_kitti_tree(tmp_path / "kitti", num_frames=42)
    (tmp_path / "split.txt").write_text("\n".join(lines))
    big = ["--height", "96", "--width", "192", "--samples-per-shard", "8"]
    return request(tmp_path, *big)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in finished_names(folder)}


def kill(running: subprocess.Popen) -> None:
    """Kills a command, and waits until its workers have exited."""
    workers = children_of(running.pid)
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait_until(lambda: not any(is_running(worker) for worker in workers))


@needs_proc
def test_killed_at_five_random_moments_it_resumes_to_the_same_bytes(tmp_path, long_request):
    output = tmp_path / "out"
    start = time.monotonic()
    running = subprocess.Popen(command(*long_request), stderr=subprocess.DEVNULL)
    wait_until(lambda: list(output.glob(f"{PACKING_NAME}/*/plan.json")))
    begun = time.monotonic() - start
    assert running.wait() == 0
    ended = time.monotonic() - start
    expected = bytes_of(output)
    shutil.rmtree(output)
    num_killed = 0
    for moment in np.random.default_rng(0).uniform(begun, ended, 100):
        options = [*long_request, "--processes", 1 + num_killed % 2]
        running = subprocess.Popen(command(*options), stderr=subprocess.DEVNULL)
        try:
            running.wait(moment)
            assert bytes_of(output) == expected
            shutil.rmtree(output)  # it finished first: start another packing
        except subprocess.TimeoutExpired:
            kill(running)
            num_killed += 1
            if num_killed == 5:
                break
    assert num_killed == 5
    if MANIFEST_NAME not in finished_names(output):
        assert make_shards(*long_request).returncode == 0
    assert bytes_of(output) == expected


@needs_proc
def test_a_worker_that_dies_is_an_error_not_a_hang(tmp_path, long_request):
    options = [*long_request, "--processes", 2]
    running = subprocess.Popen(command(*options), stderr=subprocess.PIPE, text=True)
    images = tmp_path / "out" / PACKING_NAME
    wait_until(lambda: any(file.stat().st_size for file in images.glob("*/images/.*")))
    # The last child: the first is multiprocessing's resource tracker.
    os.kill(children_of(running.pid)[-1], signal.SIGKILL)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 2
    assert "error: a worker process died" in errors
    assert not finished_names(tmp_path / "out")


@needs_proc
@pytest.mark.parametrize("moment", ["the workers start", "the workers work"])
def test_ctrl_c_ends_all_processes_with_one_word(tmp_path, long_request, moment):
    options = [*long_request, "--processes", 2]
    running = subprocess.Popen(
        command(*options), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    images = tmp_path / "out" / PACKING_NAME
    wait_until(lambda: len(children_of(running.pid)) == 3)  # with the resource tracker
    if moment == "the workers work":
        wait_until(lambda: any(file.stat().st_size for file in images.glob("*/images/.*")))
    workers = children_of(running.pid)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.splitlines()[-1].endswith("interrupted")
    assert "Traceback" not in errors
    wait_until(lambda: not any(is_running(worker) for worker in workers))


@needs_proc
def test_ctrl_c_does_not_reach_a_command_in_the_background_of_a_script(tmp_path, long_request):
    words = command(*long_request, "--processes", 2)
    running = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *words], start_new_session=True
    )
    wait_until(lambda: len(children_of(running.pid)) == 3)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait() == 0


@needs_small_disk
def test_a_full_disk_is_reported_and_packing_resumes_when_there_is_space(tmp_path):
    (tmp_path / "split.txt").write_text("\n".join(write_kitti_tree(tmp_path / "kitti")))
    disk = tmp_path / "out"
    disk.mkdir()
    pack = '"$@"; echo "exit code $?: $(ls -A)"'
    script = f"cd {disk} && {pack}; mount -o remount,size=10m {disk}; {pack}"
    done = run_on_small_disk(disk, "100k", script, *command(*request(tmp_path)))
    full, roomy = (line for line in done.stdout.splitlines() if line.startswith("exit code"))
    assert full == f"exit code 2: {PACKING_NAME}", done.stderr
    assert "error: shards cannot be written to" in done.stderr
    assert "No space left on device" in done.stderr
    assert roomy == f"exit code 0: {FINISHED_NAME}"
