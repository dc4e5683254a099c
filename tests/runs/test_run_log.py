import json
import shutil
import time

import numpy as np
import pytest
from helpers.wandb_files import history_of, records_of
from PIL import Image

from md2dist.errors import TrainingError
from md2dist.runs import status_file
from md2dist.runs.progress import Progress
from md2dist.runs.run_log import RunLog
from md2dist.runs.status_file import read_status
from md2dist.runs.wandb.log import WandbLog

METRICS = {
    "train/loss": 0.5,
    "train/lr": 1e-4,
    "train/seconds_per_step": 4.0,
    "train/samples_per_second": 3.0,
    "train/data_wait": 0.1,
}


def open_log(folder, first_step=0, is_main=True):
    wandb = WandbLog("disabled", "test", folder, None, {})
    return RunLog(folder, wandb, is_main, first_step, Progress(100, 20, 5))


def read_steps(folder):
    return [
        json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def test_each_line_is_an_object_with_its_step_and_metrics(tmp_path):
    log = open_log(tmp_path)
    log.log(METRICS, 10)
    log.log({"val/abs_rel": 0.1}, 12)
    log.close("finished")
    first, second = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first["step"] == 10
    assert first["train/loss"] == 0.5
    assert second["val/abs_rel"] == 0.1


def test_the_status_follows_the_run(tmp_path):
    def status():
        return json.loads((tmp_path / "status.json").read_text())

    log = open_log(tmp_path)
    assert status()["status"] == "running"
    log.advance(30)
    log.log(METRICS, 30)
    assert status()["step"] == 30
    log.close("failed", "ValueError: because")
    assert status()["status"] == "failed"
    assert status()["message"] == "ValueError: because"


def test_the_status_stays_fresh_with_the_activity_until_the_run_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(status_file, "PERIOD_S", 0.02)
    activity = ["at step 7"]
    log = open_log(tmp_path)
    log.advance(7)
    log.follow(lambda: (activity[0], 1.25))
    for expected in ("at step 7", "saving step 7"):
        activity[0] = expected
        while (status := read_status(tmp_path)).activity != expected:
            time.sleep(0.01)
    assert (status.step, status.activity_s) == (7, 1.2)
    log.close("finished")
    time.sleep(0.1)
    assert read_status(tmp_path).status == "finished"


def test_a_failure_is_the_final_status(tmp_path):
    log = open_log(tmp_path)
    log.fail("rank 1 was killed")
    log.write_status("running")  # by the training thread, which does not know yet
    log.write_status("finished")
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["status"], status["message"]) == ("failed", "rank 1 was killed")


def test_a_resumed_run_removes_the_lines_logged_after_the_checkpoint(tmp_path):
    log = open_log(tmp_path)
    for step in (10, 20, 30):
        log.log(METRICS, step)
    log.close("failed")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "train/l')  # truncated by a kill
    log = open_log(tmp_path, first_step=20)
    log.log(METRICS, 30)
    log.close("finished")
    assert read_steps(tmp_path) == [10, 20, 30]


@pytest.mark.slow
def test_wandb_gets_the_steps_that_it_lost_from_the_metrics_of_a_resumed_run(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_SERVICE", "")  # restored after the test
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    (tmp_path / "config.yaml").touch()

    def start(first_step, steps, num_logged):
        """Logs steps; W&B fails after some of them."""
        wandb = WandbLog("offline", "test", tmp_path, "run7", {})
        log = RunLog(tmp_path, wandb, True, first_step, Progress(100, 20, 5))
        for step in steps[:num_logged]:
            log.log(METRICS, step)
        wandb.finish(exit_code=1)
        for step in steps[num_logged:]:
            log.log(METRICS | {"train/loss": 0.25}, step)
        log.close("failed")

    start(0, [10, 20, 30, 40], num_logged=2)
    start(30, [40, 50], num_logged=2)
    files = sorted((tmp_path / "logs" / "wandb").glob("offline-run-*/run-run7.wandb"))
    rows = [row for file in files for row in history_of(records_of(file))]
    assert [(row["step"], row["train/loss"]) for row in rows] == [
        (10, 0.5),
        (20, 0.5),
        (30, 0.25),
        (40, 0.5),
        (50, 0.5),
    ]
    assert "time" not in rows[2]


def test_a_damaged_line_is_kept_aside_and_the_lines_after_it_count(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    damaged = [b"\xff\xfe\n", b'{"step": "9"}\n', b"[" * 20_000 + b"\n", b"x" * 200_000 + b"\n"]
    lines = [b'{"step": 10}\n', *damaged, b"\0" * 4096 + b'{"step": 20}\n', b'{"step": 30}']
    path.write_bytes(b"".join(lines))
    log = open_log(tmp_path, first_step=30)
    log.log(METRICS, 40)
    log.close("finished")
    assert read_steps(tmp_path) == [10, 20, 30, 40]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == b"".join(damaged)
    assert "damaged lines (it is not JSON" in caplog.text


def test_a_full_disk_is_logged_and_does_not_stop_the_run(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    log = open_log(tmp_path)
    log.log(METRICS, 10)
    log.close("finished")
    assert "metrics.jsonl could not be written: No space left on device" in caplog.text
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "finished"


def test_other_ranks_write_nothing(tmp_path):
    log = open_log(tmp_path, is_main=False)
    log.log(METRICS, 1)
    log.log_picture("train/panel", np.zeros((2, 2, 3), np.uint8), 1)
    log.advance(1)
    log.close("finished")
    assert list(tmp_path.iterdir()) == []


def test_a_panel_of_a_validation_is_a_small_file(tmp_path):
    log = open_log(tmp_path)
    log.log_validation_panel(1, np.full((30, 40, 3), 200, np.uint8), 7)
    log.close("finished")
    picture = np.asarray(Image.open(tmp_path / "logs" / "val-panel-1-00000007.jpg")).astype(int)
    assert picture.shape == (30, 40, 3)
    assert np.abs(picture - 200).max() <= 2


def test_pictures_are_kept_as_files(tmp_path):
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    log = open_log(tmp_path)
    log.log_picture("train/panel", picture, 7)
    log.close("finished")
    assert np.array_equal(Image.open(tmp_path / "logs" / "train-panel-00000007.png"), picture)


def test_a_folder_that_was_deleted_is_logged_once_and_is_an_error_at_the_end(tmp_path, caplog):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").touch()
    log = open_log(folder)
    log.log(METRICS, 10)
    log.check_files()
    shutil.rmtree(folder)
    for step in (20, 30):
        log.advance(step)
        log.log(METRICS, step)
    [record] = [record for record in caplog.records if str(folder) in record.message]
    assert "was deleted or moved: config.yaml and metrics.jsonl missing" in record.message
    folder.mkdir()  # by the next checkpoint
    with pytest.raises(TrainingError, match=r"config.yaml and metrics.jsonl missing.* step 30 is"):
        log.check_files()
    log.fail("deleted")
    assert json.loads((folder / "status.json").read_text())["status"] == "failed"


def test_the_status_of_another_run_in_the_same_folder_is_not_touched(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    log = open_log(folder)
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    open_log(folder).close("finished")
    log.fail("deleted")
    assert json.loads((folder / "status.json").read_text())["status"] == "finished"
