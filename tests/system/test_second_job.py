"""A second job on one machine, at the same port."""

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import run_command, training_words
from helpers.running_job import RunningJob

from md2dist.distributed.world import find_free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run_dir(small_shards, tmp_path_factory):
    """A run of one step."""
    folder = tmp_path_factory.mktemp("run")
    words = [*training_words(small_shards, folder), "optim.max_steps=1"]
    run_command([sys.executable, "launch/train.py", "--config", *words])
    return folder


def launch_others(port, run_dir, shards):
    """Starts a training and an evaluation at a port; returns their results."""
    launcher = ["deepspeed", "--num_gpus", 2, "--master_port", port]
    words = [*training_words(shards, run_dir.with_name("other")), "optim.max_steps=3"]
    evaluation = ["launch/evaluate.py", "--checkpoint", run_dir, "--shards", shards]
    alone = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(run_command, [*launcher, "launch/train.py", "--config", *words]),
            pool.submit(run_command, [*launcher, *evaluation]),
            pool.submit(run_command, [sys.executable, *evaluation], **alone),
        ]
        return [job.result() for job in jobs]


def assert_refused(jobs, port):
    for job in jobs:
        assert job.returncode == 2
        assert "Traceback" not in job.stdout + job.stderr
        errors = [line for line in job.stderr.splitlines() if line.startswith("error:")]
        assert errors, job.stderr
        assert all("--master_port N" in line for line in errors)
    assert f"error: port {port} of this machine is in use" in jobs[0].stderr
    assert f"the job at 127.0.0.1:{port} is another one" in jobs[2].stderr


def test_a_training_does_not_notice_jobs_at_its_port(small_shards, run_dir, tmp_path):
    port = find_free_port()
    words = [*training_words(small_shards, tmp_path / "first"), "optim.num_epochs=10000"]
    first = RunningJob(tmp_path / "first", words, ["--num_gpus", 2, "--master_port", port])
    try:
        first.wait_until(lambda: first.status().get("step", 0) > 0)
        assert_refused(launch_others(port, run_dir, small_shards), port)
        step = first.status()["step"]
        first.wait_until(lambda: first.status()["step"] > step)
        assert first.status()["status"] == "running"
        assert "stopping" not in first.output()
    finally:
        first.kill()


def test_an_evaluation_does_not_notice_jobs_at_its_port(small_shards, run_dir, tmp_path):
    port, go_on = find_free_port(), tmp_path / "go_on"
    slow = f"pipe:until [ -e {go_on} ]; do sleep 0.1; done; cat {small_shards}/{{}}"
    command = ["deepspeed", "--num_gpus", 2, "--master_port", port, "launch/evaluate.py"]
    command += ["--checkpoint", run_dir, "--shards", slow, "--cache-dir", tmp_path]
    with ThreadPoolExecutor() as pool:
        first = pool.submit(run_command, command)
        try:
            wait_for_server(port)
            assert_refused(launch_others(port, run_dir, small_shards), port)
            assert not first.done()
        finally:
            go_on.touch()
        assert first.result().returncode == 0, first.result().stderr
    assert "abs_rel" in first.result().stdout


def wait_for_server(port):
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
