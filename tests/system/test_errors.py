"""User errors are reported in one line with exit code 2."""

import json
import sys

import pytest
from conftest import run_command, training_words
from helpers.small_disk import needs_small_disk, run_on_small_disk

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.lrr=1"], "did you mean optim.lr?"),
        (["network.weights=nowhere.pth"], "nowhere.pth"),
        (["log.run_dir=/dev/null/run"], "/dev/null/run"),
    ],
)
def test_a_user_error_is_reported_in_one_line(run_training, words, message):
    process, _ = run_training("run", *words, expected_code=2)
    lines = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in process.stderr


@needs_small_disk
def test_shared_memory_that_is_too_small_for_the_workers_is_one_line(small_shards, tmp_path):
    command = [sys.executable, "launch/train.py", "--config"]
    words = [*training_words(small_shards, tmp_path / "run"), "data.num_workers=2"]
    process = run_on_small_disk("/dev/shm", "1m", 'exec "$@"', *command, *words)
    assert process.returncode == 2
    assert "shared memory for data.num_workers=2: 1 MB free at /dev/shm, 2 MB" in process.stderr
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_user_error_is_reported_once_for_all_ranks(run_training):
    process, run_dir = run_training(
        "run", "data.train_shards=nowhere", num_ranks=2, expected_code=2
    )
    output = process.stdout + process.stderr
    assert output.count("error: ") == 1
    assert "md2dist pack" in output
    assert "Traceback" not in output
    assert not run_dir.exists()


def test_a_run_does_not_resume_with_other_networks(run_training, train):
    run_dir = train("run", "optim.max_steps=1")
    settings = (run_dir / "config.yaml").read_text()
    words = ["data.frame_offsets=[]", "optim.micro_batch_size=1", "optim.max_steps=2"]
    process, _ = run_training("run", *words, num_ranks=2, expected_code=2)
    output = process.stdout + process.stderr
    assert output.count("error: ") == 1
    assert "now they are encoder, depth; restore data.frame_offsets" in output
    assert "Traceback" not in output
    assert (run_dir / "config.yaml").read_text() == settings


def test_missing_shards_are_reported_without_a_launcher():
    process = run_command([sys.executable, "launch/train.py"])
    assert process.returncode == 2
    assert "data.train_shards is not set" in process.stderr


def test_a_run_whose_steps_are_all_skipped_fails_with_the_reason(run_training):
    process, run_dir = run_training(
        "run", "optim.lr=1e38", "optim.max_skipped_steps=3", "optim.num_epochs=10", expected_code=2
    )
    assert "3 steps in a row had a non-finite loss or gradient" in process.stderr
    assert "rank 0: " in process.stderr
    assert "Traceback" not in process.stderr
    status = json.loads((run_dir / "status.json").read_text())
    assert status["status"] == "failed"
    assert "3 steps in a row" in status["message"]
