"""What W&B's users find in a run: names, groups of charts, tables, artifacts, and its origin."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.wandb_files import history_of, records_of

from md2dist.runs.checkpoint_names import VALIDATION_NAME
from md2dist.runs.progress import Progress
from md2dist.runs.run_log import RunLog
from md2dist.runs.wandb import log as wandb_log
from md2dist.runs.wandb.log import WandbLog
from md2dist.runs.wandb.names import choose_project
from md2dist.runs.wandb.parts import find_parts, read_part


def read_run(run_dir):
    (path,) = (run_dir / "logs" / "wandb").glob("offline-run-*/run-*.wandb")
    return path.parent, records_of(path)


def values_of(record):
    """The configuration of a record of a run."""
    return {item.key: json.loads(item.value_json) for item in record.run.config.update}


NAMED_RUN = """
import sys
from pathlib import Path
from md2dist.runs.wandb.log import WandbLog
from md2dist.runs.wandb.mode import choose_mode
from md2dist.runs.wandb.names import choose_project

mode, _ = choose_mode("offline")
WandbLog(mode, choose_project("md2dist", "md2dist"), Path(sys.argv[1]), None, {}).finish(0)
"""


@pytest.mark.slow
def test_the_variables_of_wandb_name_a_run_whose_settings_leave_them(no_account, tmp_path):
    names = {"PROJECT": "depth", "NAME": "third", "ENTITY": "lab", "RUN_GROUP": "kitti"}
    variables = {f"WANDB_{name}": value for name, value in names.items()}
    subprocess.run(
        [sys.executable, "-c", NAMED_RUN, tmp_path],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **variables, "WANDB_TAGS": "small,stereo"},
        check=True,
    )
    (run,) = [r.run for r in read_run(tmp_path)[1] if r.HasField("run")]
    assert (run.project, run.display_name, run.entity) == ("depth", "third", "lab")
    assert (run.run_group, list(run.tags)) == ("kitti", ["small", "stereo"])


def test_a_project_of_the_settings_overrides_the_variable(monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "depth")
    assert choose_project("mine", "md2dist") == "mine"
    monkeypatch.delenv("WANDB_PROJECT")
    assert choose_project("md2dist", "md2dist") == "md2dist"


@pytest.mark.slow
def test_metrics_tables_and_checkpoints_of_a_run_are_where_users_of_wandb_look(
    no_account, tmp_path
):
    checkpoint = tmp_path / "checkpoints" / "step-00000030"
    checkpoint.mkdir(parents=True)
    (tmp_path / "config.yaml").touch()
    (checkpoint / "mp_rank_00_model_states.pt").write_bytes(b"weights")
    (checkpoint / VALIDATION_NAME).write_text('{"abs_rel": 0.25}')
    wandb = WandbLog("offline", "test", tmp_path, "run7", {}, {"train_shards": {"drives": "2"}})
    log = RunLog(tmp_path, wandb, True, 0, Progress(100, 20, 5))
    metrics = {"epoch": 0, "train/loss": 0.5, "train/lr": 1e-4, "train/seconds_per_step": 4.0,
               "train/samples_per_second": 3.0, "train/data_wait": 0.1}  # fmt: skip
    log.log(metrics, 30)
    log.log({"val/abs_rel": 0.25}, 30)
    picture = np.zeros((4, 6, 3), np.uint8)
    rows = [{"picture": picture + i, "drive": "drive", "frame": i, "abs_rel": 0.3} for i in (0, 1)]
    log.log_table("val/worst", iter(rows), 30)
    log.log_checkpoint(checkpoint, ["best"], 30)
    log.close("finished")

    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0]).keys() == {
        "step", "time", *metrics,
    }  # fmt: skip
    part, records = read_run(tmp_path)
    (row,) = history_of(records)
    names = {"/".join(name.split("/")[:2]) for name in row if name[0] != "_"}
    assert names == {
        "step", "train/epoch", "train/loss", "train/lr", "perf/seconds_per_step",
        "perf/samples_per_second", "perf/data_wait", "val/abs_rel", "val/worst",
    }  # fmt: skip
    assert (row["val/worst/_type"], row["val/worst/nrows"]) == ("table-file", 2)
    table = json.loads((part / "files" / row["val/worst/path"]).read_text())
    assert table["columns"] == ["picture", "drive", "frame", "abs_rel"]

    artifacts = [r.artifact for r in records if r.HasField("artifact")]
    model, pictures = sorted(artifacts, key=lambda artifact: artifact.type)
    files = [Path(entry.local_path) for entry in pictures.manifest.contents]
    assert sum(entry.path.endswith(".jpg") for entry in pictures.manifest.contents) == 2
    assert all(path.is_relative_to(tmp_path / "logs" / "wandb") for path in files)
    assert (model.name, model.type, sorted(model.aliases)) == (
        "checkpoint-run7", "model", ["best", "latest"],
    )  # fmt: skip
    assert json.loads(model.metadata) == {"step": 30, "abs_rel": 0.25}
    references = [entry.ref for entry in model.manifest.contents]
    assert references == [path.as_uri() for path in sorted(checkpoint.iterdir())]
    (config,) = [values_of(r) for r in records if r.HasField("run")]
    assert config["origin"] == {"train_shards": {"drives": "2"}}


@pytest.mark.slow
def test_a_run_is_found_again_though_its_origin_has_changed(no_account, tmp_path):
    for commit in ("first", "second"):
        log = WandbLog("offline", "test", tmp_path, None, {"seed": 1}, {"commit": commit})
        log.log({"train/loss": 0.5}, 1)
        log.finish(exit_code=0)
    parts = find_parts(tmp_path / "logs" / "wandb")
    assert len(parts) == 2
    assert len({part.run_id for part in parts}) == 1
    assert read_part(parts[-1]).settings == {"seed": 1}


class Run:
    """Keeps the rows of a run; W&B's part in it is played by `fault`."""

    id = "run7"

    def __init__(self, fault):
        self.rows, self.fault = [], fault

    def log(self, row, **_):
        self.fault(row)
        self.rows.append(row)

    def log_artifact(self, *_, **__):
        raise ConnectionError("no route")

    def finish(self, **_):
        raise AssertionError("W&B is not asked any more")


def open_log(tmp_path, fault):
    log = WandbLog("disabled", "test", tmp_path, None, {})
    log._run = Run(fault)
    return log, log._run


def test_a_server_that_does_not_answer_delays_neither_a_step_nor_the_end(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(wandb_log, "_SENDING_TIMEOUT_S", 0.2)
    is_answered = threading.Event()
    log, _ = open_log(tmp_path, lambda row: is_answered.wait(30) or is_answered.set())
    begin = time.monotonic()
    for step in range(100):
        log.log({"train/loss": 1.0}, step)
    log.log_checkpoint(tmp_path, [], {})
    log.finish(exit_code=0)
    assert time.monotonic() - begin < 20
    is_answered.set()
    assert caplog.messages == ["W&B has not taken everything within 0 s"]


def test_a_table_or_an_artifact_that_fails_costs_no_metric(tmp_path, caplog):
    def refuse_tables(row):
        if "val/worst" in row:
            raise ConnectionError("no route")

    log, run = open_log(tmp_path, refuse_tables)
    with caplog.at_level(logging.WARNING, logger="md2dist"):
        log.log({"val/abs_rel": 0.5}, 1)
        log.log_table("val/worst", [{"frame": 7}], 1)
        log.log({"val/abs_rel": 0.25}, 2)
        log.log_checkpoint(tmp_path / "removed", [], {})
        log.log({"val/abs_rel": 0.125}, 3)
        log.log({"val/abs_rel": 0.125}, 4)
        log._sender.close(60)
    assert [row["val/abs_rel"] for row in run.rows] == [0.5, 0.25, 0.125]
    table, artifact = caplog.messages
    assert table == "step 1 has no table in W&B: no route"
    assert artifact.startswith(f"{tmp_path / 'removed'} is no artifact in W&B: ")
    assert log.is_on


def test_without_wandb_no_row_of_a_table_is_drawn(tmp_path):
    def draw():
        raise AssertionError("drawn")
        yield

    log = RunLog(
        tmp_path, WandbLog("disabled", "test", tmp_path, None, {}), True, 0, Progress(9, 9, 3)
    )
    log.log_table("val/worst", draw(), 1)
    log.close("finished")
