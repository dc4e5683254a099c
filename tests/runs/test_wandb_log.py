import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from helpers.wandb_files import history_of, records_of
from local_wandb import KEY, serve_wandb

from md2dist.runs.wandb import log as wandb_log
from md2dist.runs.wandb.log import WandbLog

TRAINING = """
import logging, os, signal, sys, time
from pathlib import Path
from md2dist.runs.wandb.log import WandbLog
from md2dist.runs.wandb.parts import find_parts, read_part

mode, run_dir, run_id, first, last, is_killed = sys.argv[1:]
logging.basicConfig(level=logging.INFO, format="%(message)s")
log = WandbLog(mode, "test", Path(run_dir), run_id or None, {"optim": {"lr": 1e-4, "x": (1, 2)}})
log.catch_up((step, {"train/loss": 1 / step}) for step in range(1, int(first) + 1))
for step in range(int(first) + 1, int(last) + 1):
    log.log({"train/loss": 1 / step}, step)
    log.log({"val/abs_rel": 1 / step}, step)
if is_killed == "killed":
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # until W&B's process has written the complete rows
        parts = find_parts(Path(run_dir, "logs", "wandb"))
        if parts and read_part(parts[-1]).last_step == int(last) - 1:
            break
        time.sleep(0.1)
    time.sleep(1)  # until it has sent them
    os.kill(os.getpid(), signal.SIGKILL)
log.finish(exit_code=0)
"""


def train(mode, run_dir, steps, run_id="run7", end="", server=None):
    """Logs steps from a checkpoint to the end, or until the process is killed; returns its log."""
    account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY} if server else {}
    run_dir.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, mode, run_dir, run_id, *map(str, steps), end],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **account},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (-signal.SIGKILL if end else 0), done.stderr
    return done.stderr


def parts_of(run_dir):
    return sorted((run_dir / "logs" / "wandb").glob("*run-2*"), key=lambda path: path.name[-22:])


def rows_of(run_dir):
    files = [next(part.glob("*.wandb")) for part in parts_of(run_dir)]
    return [row for file in files for row in history_of(records_of(file))]


def steps_of(rows):
    return [row["step"] for row in rows]


def messages_of(caplog):
    """What was logged, without W&B's own lines."""
    return [r.getMessage() for r in caplog.records if r.name.startswith("md2dist")]


def upload(log, server):
    """Runs the command that the end of a run has logged."""
    command = log.splitlines()[-1].removeprefix("upload it with: ")
    environment = {**os.environ, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, shell=True, check=True, env={**environment, "PATH": path})


@pytest.mark.slow
def test_an_offline_run_holds_scalars_and_pictures_in_one_row_per_step(
    no_account, tmp_path, caplog, capfd
):
    log = WandbLog("offline", "test", tmp_path, "run7", {"optim": {"lr": 1e-4}})
    assert log.run_id == "run7"
    log.log({"train/loss": 0.5}, 25)
    log.log_picture("train/panel", np.zeros((4, 6, 3), np.uint8), 30)
    log.log({"val/abs_rel": 0.25}, 30)
    with caplog.at_level(logging.INFO, logger="md2dist"):
        log.finish(exit_code=0)
    (part,) = parts_of(tmp_path)
    assert messages_of(caplog) == [f"upload it with: wandb sync {part}"]
    assert capfd.readouterr() == ("", "")
    first, second = rows_of(tmp_path)
    assert (first["step"], first["train/loss"]) == (25, 0.5)
    assert (second["step"], second["val/abs_rel"], second["train/panel/height"]) == (30, 0.25, 4)
    assert Path(second["train/panel/path"]).name.startswith("panel_30_")
    metrics = [r.metric for r in records_of(part / "run-run7.wandb") if r.HasField("metric")]
    assert [(metric.glob_name, metric.step_metric) for metric in metrics] == [
        ("", ""),
        ("*", "step"),
    ]


@pytest.mark.slow
def test_the_offline_parts_of_a_crashed_run_become_one_run_with_each_step_once(
    no_account, tmp_path
):
    run_dir = tmp_path / "my run"
    train("offline", run_dir, (0, 8), end="killed")
    log = train("offline", run_dir, (6, 14))
    assert steps_of(rows_of(run_dir)) == list(range(1, 15))
    assert len(log.splitlines()) == 1
    with serve_wandb() as server:
        upload(log, server)
        rows = server.rows_of("run7")
        assert [(row["step"], row["train/loss"]) for row in rows] == [
            (step, 1 / step) for step in range(1, 15)
        ]
        upload(train("offline", run_dir, (14, 16)), server)
        assert steps_of(server.rows_of("run7")) == list(range(1, 17))


@pytest.mark.slow
def test_a_validation_that_a_stop_left_to_the_next_start_is_logged(no_account, tmp_path):
    for number in range(3):  # the third start repeats what the second has logged
        log = WandbLog("offline", "test", tmp_path, "run7", {})
        log.log({"train/loss": 0.5}, 8)
        if number:
            log.log({"val/abs_rel": 0.25}, 8)
        log.finish(exit_code=0)
    names = [{name for name in row if name[0] != "_"} for row in rows_of(tmp_path)]
    assert sorted(map(sorted, names)) == [["step", "train/loss"], ["step", "val/abs_rel"]]


@pytest.mark.slow
def test_a_run_that_crashes_before_its_first_checkpoint_stays_one_run(no_account, tmp_path):
    train("offline", tmp_path / "run", (0, 5), run_id="", end="killed")
    train("offline", tmp_path / "run", (0, 7), run_id="")
    assert len({part.name[-8:] for part in parts_of(tmp_path / "run")}) == 1
    assert steps_of(rows_of(tmp_path / "run")) == list(range(1, 8))


@pytest.mark.slow
def test_an_online_run_that_crashes_and_goes_offline_in_between_has_each_step_once(
    no_account, tmp_path
):
    run_dir = tmp_path / "run"
    with serve_wandb() as server:
        train("online", run_dir, (0, 8), end="killed", server=server)
        train("online", run_dir, (6, 10), server=server)
        upload(train("offline", run_dir, (10, 12)), server)
        log = train("online", run_dir, (12, 14), server=server)
        assert sorted(steps_of(server.rows_of("run7"))) == list(range(1, 15))
        assert log == f"W&B run: {server.url}/someone/test/runs/run7\n"


@pytest.mark.slow
def test_a_server_that_refuses_the_key_leaves_an_offline_run(no_account, tmp_path):
    with serve_wandb(status=401) as server:
        log = train("online", tmp_path / "run", (0, 3), server=server)
    assert steps_of(rows_of(tmp_path / "run")) == [1, 2, 3]
    refusal, remedy = log.splitlines()
    assert "W&B logs offline: " in refusal
    assert "401" in refusal
    assert "upload it with: wandb sync" in remedy


def test_a_failure_of_wandb_is_reported_once_and_stops_nothing(tmp_path, caplog):
    class DeadRun:
        id = "dead"

        def log(self, *_, **__):
            raise ConnectionError("no\nroute")

    log = WandbLog("disabled", "test", tmp_path, None, {})
    log._run = DeadRun()
    with caplog.at_level(logging.WARNING, logger="md2dist"):
        for step in range(3):
            log.log({"train/loss": 1.0}, step)
        log.finish(exit_code=0)
    assert caplog.messages == ["W&B logging is off for the rest of this run: no route"]
    assert log.run_id is None


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hangs", "fails"])
def test_the_end_names_the_offline_part_of_a_run_that_wandb_does_not_take_whole(
    no_account, tmp_path, monkeypatch, caplog, fault
):
    monkeypatch.setattr(wandb_log, "_SENDING_TIMEOUT_S", 0.2)
    log = WandbLog("offline", "test", tmp_path, "run7", {})
    run, is_over = log._run, threading.Event()
    log._submit(is_over.wait if fault == "hangs" else lambda: 1 / 0)
    while fault == "fails" and log.is_on:
        time.sleep(0.01)
    with caplog.at_level(logging.INFO, logger="md2dist"):
        for _ in range(2):
            log.finish(exit_code=1)
    is_over.set()
    run.finish()
    warning, remedy = messages_of(caplog)
    assert {"hangs": "has not taken everything", "fails": "division by zero"}[fault] in warning
    assert remedy == f"upload it with: wandb sync {Path(run.dir).parent}"


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [None, "chosen"])
@pytest.mark.parametrize("fault", [None, OSError("no room")])
def test_the_end_of_a_run_leaves_the_environment_as_before(
    no_account, tmp_path, monkeypatch, chosen, fault
):
    if chosen:
        monkeypatch.setenv("WANDB_DATA_DIR", chosen)
    if fault:
        monkeypatch.setattr(WandbLog, "_open", Mock(side_effect=fault))
    log = WandbLog("offline", "test", tmp_path, "run7", {})
    own = tmp_path / "logs" / "wandb"
    assert os.environ["WANDB_DATA_DIR"] == (chosen or str(own))
    log.finish(exit_code=0)
    assert os.environ.get("WANDB_DATA_DIR") == chosen


def test_a_disabled_run_makes_no_file(tmp_path):
    log = WandbLog("disabled", "test", tmp_path, None, {})
    log.log({"train/loss": 1.0}, 1)
    log.finish(exit_code=0)
    assert log.run_id is None
    assert list(tmp_path.iterdir()) == []
