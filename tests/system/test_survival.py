"""Fault tolerance of running jobs: signals and failures end all ranks, and the run can resume."""

import os
import shutil
import signal
import time

import pytest
from conftest import assert_same_state, read_metrics, read_state, training_words
from helpers.running_job import RunningJob
from helpers.small_shards import write_small_shards

from md2dist.distributed.signals import EXIT_PREEMPTED

pytestmark = pytest.mark.slow
STEPS_PER_EPOCH = 3


@pytest.fixture
def start_job(small_shards, tmp_path):
    """Starts a job of two ranks in a run folder; remaining processes are killed at teardown."""
    jobs = []

    def start(name, *words):
        run_dir = tmp_path / name
        endless = ["optim.num_epochs=10000", "checkpoint.every_steps=2"]
        jobs.append(RunningJob(run_dir, [*training_words(small_shards, run_dir), *endless, *words]))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()


def saved_step(job):
    """Returns the step of the newest checkpoint, 0 without one."""
    latest = job.run_dir / "checkpoints" / "latest"
    return int(latest.read_text().strip().removeprefix("step-")) if latest.is_file() else 0


def wait_for_steps(job):
    start = job.status().get("step", 0)
    job.wait_until(lambda: job.status().get("step", 0) > start)


def wait_for_validation(job):
    start = saved_step(job)
    job.wait_until(lambda: saved_step(job) > start and saved_step(job) % STEPS_PER_EPOCH == 0)


def stall_the_data(job):
    wait_for_steps(job)
    job.send(signal.SIGSTOP, "worker")
    job.wait_until(lambda: time.time() - job.status()["time"] > 3)  # each step writes it


# Per case: condition to wait for, signal, its receiver, and the exit code of `deepspeed`.
SIGNALS = {
    "TERM to deepspeed": (wait_for_steps, signal.SIGTERM, "deepspeed", -signal.SIGTERM),
    "USR1 to deepspeed": (wait_for_validation, signal.SIGUSR1, "deepspeed", -signal.SIGUSR1),
    "TERM to launch": (wait_for_steps, signal.SIGTERM, "launch", 1),
    "TERM to a rank": (stall_the_data, signal.SIGTERM, "rank 0", EXIT_PREEMPTED),
    "USR1 to a rank": (wait_for_steps, signal.SIGUSR1, "rank 1", EXIT_PREEMPTED),
}


def test_a_job_is_saved_whichever_process_is_signalled_and_resumes_bit_for_bit(
    start_job, run_training, tmp_path
):
    views = {"frame_offsets": (), "use_stereo": False, "ground_truth": "velodyne"}
    val_shards = write_small_shards(tmp_path / "val", 400, height=64, width=64, **views)
    for name, (wait, number, receiver, expected_code) in SIGNALS.items():
        validation = [f"data.val_shards={val_shards}"] if wait is wait_for_validation else []
        job = start_job("run", *validation)
        start = job.status().get("step", 0)
        wait(job)
        job.send(number, receiver)
        code, output = job.wait_for_end(seconds=120)
        assert code == expected_code, name + output
        assert job.status()["status"] == "preempted", name + output
        assert start < job.status()["step"] == saved_step(job), name
        assert "Traceback" not in output, name + output
        assert "val/abs_rel" not in (job.run_dir / "metrics.jsonl").read_text()
    last_step = job.status()["step"]
    words = ["optim.num_epochs=10000", f"optim.max_steps={last_step}"]
    _, whole = run_training("whole", *words, num_ranks=2)
    assert read_metrics(job.run_dir) == read_metrics(whole)
    assert_same_state(read_state(job.run_dir), read_state(whole))


def test_a_job_that_loses_a_rank_or_hangs_ends_with_the_reason_and_can_resume(start_job):
    job = start_job("run")
    wait_for_steps(job)
    pid = job.pid("rank 1")
    job.send(signal.SIGKILL, "rank 1")
    code, output = job.wait_for_end(seconds=120)
    assert code not in (0, EXIT_PREEMPTED)
    assert output.count("error: ") == 1
    assert f"error: rank 1 (process {pid} on {os.uname().nodename}" in output
    assert "Traceback" not in output
    assert job.status()["status"] == "failed"
    assert "rank 1" in job.status()["message"]

    job = start_job("run", "log.hang_timeout_s=20", "checkpoint.resume=auto")
    wait_for_steps(job)
    job.send(signal.SIGSTOP, "worker")
    code, output = job.wait_for_end(seconds=120)
    assert code == 1
    assert "rank 0: at step" in job.status()["message"]
    assert "rank 1: reading the data of step" in job.status()["message"]
    for rank in (0, 1):
        assert "most recent call first" in (job.run_dir / f"logs/rank-{rank}.log").read_text()


def test_a_shard_damaged_during_training_ends_all_ranks_with_one_message(
    start_job, small_shards, tmp_path
):
    shards = shutil.copytree(small_shards, tmp_path / "shards")
    with (shards / "shard-000001.tar").open("r+b") as file:
        file.seek(2048)
        file.write(b"x" * 2048)
    code, output = start_job("run", f"data.train_shards={shards}").wait_for_end(seconds=120)
    assert code == 2
    assert output.count("error: ") == 1
    assert "shard-000001.tar is damaged" in output
    assert "Traceback" not in output
