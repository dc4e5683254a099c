"""The batch scripts on a SLURM cluster of two nodes."""

import json
import sys

import pytest
from conftest import read_metrics, run_command, skip_outside_ci, training_words
from helpers.kitti_tree import write_kitti_tree
from slurm_cluster import PROGRAMS, find_program, start_cluster, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    missing = [name for name in PROGRAMS if find_program(name) is None]
    if missing:
        skip_outside_ci(f"no {', '.join(missing)}: install Debian's slurm-wlm and munge")
    with start_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def submit(cluster, tmp_path):
    """Submits a batch script; returns the job ID and the path of its log."""

    def submit(*words, **environment):
        number = cluster.submit("--output", f"{tmp_path}/%j.log", *words, **environment)
        return number, tmp_path / f"{number}.log"

    return submit


def last_step(run_dir):
    """Returns the newest step in the run's log; 0 before the first one."""
    return max(read_metrics(run_dir), default=0) if (run_dir / "metrics.jsonl").exists() else 0


def read_status(run_dir):
    return json.loads((run_dir / "status.json").read_text())


def test_an_array_packs_and_a_dependent_job_merges(cluster, submit, tmp_path):
    lines = write_kitti_tree(tmp_path / "kitti", num_frames=6)
    split = tmp_path / "split.txt"
    split.write_text("\n".join(lines) + "\n")
    options = ["--kitti-root", tmp_path / "kitti", "--split", split, "--samples-per-shard", "3",
               "--height", "32", "--width", "64"]  # fmt: skip
    script = ["--cpus-per-task", "1", "launch/slurm/pack.sbatch", *options]
    array, _ = submit("--array", "0-1", *script, "--output", tmp_path / "many")
    after = ["--dependency", f"afterok:{array}"]
    merge, log = submit(*after, *script, "--output", tmp_path / "many", "--merge")
    command = [sys.executable, "shard_tools/make_shards.py", *options]
    assert run_command([*command, "--output", tmp_path / "one"]).returncode == 0
    assert cluster.wait_for_end(merge)["JobState"] == "COMPLETED", log.read_text()
    many, one = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("[!.]*")}
        for name in ("many", "one")
    )
    assert many == one
    assert len(many) == 4


def test_a_training_is_requeued_up_to_the_limit_and_loses_no_step(
    cluster, submit, long_shards, two_rank_run, tmp_path
):
    run_dir, length = tmp_path / "run", tmp_path / "length.yaml"
    words = ["--nodes", "2", "launch/slurm/train.sbatch", *training_words(long_shards, run_dir)]
    length.write_text("optim: {max_steps: 1000}")

    job, log = submit(*words, length, MAX_RESTARTS="1")
    wait_until(lambda: last_step(run_dir) >= 3)
    cluster.call("scancel", "--signal=USR1", job)
    wait_until(lambda: cluster.job(job)["Restarts"] == "1")
    assert read_status(run_dir)["status"] == "preempted"
    first_stop = last_step(run_dir)
    assert read_status(run_dir)["step"] == first_stop
    wait_until(lambda: last_step(run_dir) > first_stop)
    cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=2")  # SLURM sends USR1 now
    assert cluster.wait_for_end(job)["ExitCode"] == "85:0"
    assert "restarted 1 times, MAX_RESTARTS=1" in log.read_text()
    length.write_text(f"optim: {{max_steps: {last_step(run_dir) + 1}}}")
    again, log = submit(*words, length)
    assert cluster.wait_for_end(again)["JobState"] == "COMPLETED", log.read_text()
    assert read_status(run_dir)["status"] == "finished"
    losses = read_metrics(run_dir)
    assert list(losses) == list(range(1, last_step(run_dir) + 1))
    assert {step: losses[step] for step in (1, 2, 3)} == read_metrics(two_rank_run)


def test_a_cancelled_training_is_saved_and_stays_cancelled(cluster, submit, long_shards, tmp_path):
    run_dir = tmp_path / "run"
    words = training_words(long_shards, run_dir)
    job, log = submit("--nodes", "2", "launch/slurm/train.sbatch", *words)
    wait_until(lambda: last_step(run_dir) > 0)
    cluster.call("scancel", job)
    end = cluster.wait_for_end(job)
    assert (end["JobState"], end["Restarts"]) == ("CANCELLED", "0"), log.read_text()
    assert read_status(run_dir)["status"] == "preempted"
    assert "not requeued" in log.read_text()


def test_a_training_stopped_before_it_handles_signals_may_be_requeued(
    cluster, submit, long_shards, tmp_path
):
    words = training_words(long_shards, tmp_path / "run")
    job, log = submit("launch/slurm/train.sbatch", *words, MAX_RESTARTS="0")
    wait_until(lambda: f"{job}.0" in cluster.call("squeue", "--steps", "--noheader"))

    def is_over():  # the first signal may precede the process
        run_command(["scancel", "--signal=USR1", job], **cluster.environment)
        return cluster.job(job)["JobState"] == "FAILED"

    wait_until(is_over)
    assert "stopped before the first step" in log.read_text()
    assert "MAX_RESTARTS=0: the job is not requeued" in log.read_text()


def test_two_nodes_give_the_metrics_of_one_process(
    cluster, submit, small_shards, two_rank_run, tmp_path
):
    words = ["--checkpoint", two_rank_run, "--shards", small_shards, "--output"]
    job, log = submit("-N", "2", "launch/slurm/evaluate.sbatch", *words, tmp_path / "two.json")
    command = [sys.executable, "launch/evaluate.py", *words, tmp_path / "one.json"]
    assert run_command(command).returncode == 0
    assert cluster.wait_for_end(job)["JobState"] == "COMPLETED", log.read_text()
    two, one = (json.loads((tmp_path / name).read_text()) for name in ("two.json", "one.json"))
    assert two.pop("tables") == [pytest.approx(table) for table in one.pop("tables")]
    assert two == pytest.approx(one)
    assert log.read_text().count("abs_rel") == 1  # two ranks of one world, not two worlds


def test_a_job_has_a_rank_per_gpu_and_is_refused_with_fewer_cpus_than_ranks(cluster, submit):
    job, log = submit("--gpus-per-node", "2", "--cpus-per-task", "1", "launch/slurm/train.sbatch")
    assert cluster.wait_for_end(job)["ExitCode"] == "2:0"
    assert "1 CPUs per node, too few for 2 ranks on 1 nodes" in log.read_text()
