import logging
import subprocess
import sys

import numpy as np
import pytest
from helpers.wandb_files import history_of, records_of

from md2dist.errors import ConfigError
from md2dist.runs.wandb_log import WandbLog, check_account


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SERVICE", "")  # restored after the test
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.slow
def test_an_offline_run_holds_the_scalars_and_pictures_that_were_logged(no_account, tmp_path):
    log = WandbLog("auto", "test", tmp_path, "run7", {"optim": {"lr": 1e-4}})
    assert log.run_id == "run7"
    log.log({"train/loss": 0.25}, 10)
    log.log_picture("train/panel", np.zeros((4, 6, 3), np.uint8), 10)
    log.finish(exit_code=0)
    (path,) = (tmp_path / "logs" / "wandb").glob("offline-run-*-run7/run-run7.wandb")
    (row,) = history_of(records_of(path))
    assert row["train/loss"] == 0.25
    assert row["_step"] == 10
    assert row["train/panel/height"] == 4


def test_a_failure_of_wandb_is_reported_once_and_stops_nothing(tmp_path, caplog):
    class DeadRun:
        id = "dead"

        def log(self, *_, **__):
            raise ConnectionError("no route")

    log = WandbLog("disabled", "test", tmp_path, None, {})
    log._run = DeadRun()
    with caplog.at_level(logging.WARNING, logger="md2dist"):
        for step in range(3):
            log.log({"train/loss": 1.0}, step)
    assert [record.getMessage() for record in caplog.records] == [
        "W&B logging is off for the rest of this run: no route"
    ]
    assert log.run_id is None


def test_a_disabled_run_makes_no_file(tmp_path):
    log = WandbLog("disabled", "test", tmp_path, None, {})
    log.log({"train/loss": 1.0}, 1)
    log.finish(exit_code=0)
    assert log.run_id is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["auto", "offline", "disabled"])
def test_only_an_online_run_needs_an_account(no_account, mode):
    check_account(mode)


@pytest.mark.parametrize(("mode", "wanted"), [("online", "offline"), ("auto", "online")])
def test_an_online_run_is_refused_without_an_account(no_account, monkeypatch, mode, wanted):
    monkeypatch.setenv("WANDB_MODE", wanted)
    source = "log.wandb_mode" if mode == "online" else "WANDB_MODE"
    with pytest.raises(
        ConfigError, match=rf"{source}=online, but .*wandb login.*wandb_mode=offline"
    ):
        check_account(mode)


@pytest.mark.slow
@pytest.mark.parametrize(
    "account",
    [
        {"WANDB_API_KEY": "0" * 40},
        {"NETRC": "api.wandb.ai"},
        {"NETRC": "w.example:8080", "WANDB_BASE_URL": "http://w.example:8080"},
    ],
)
def test_an_account_is_found_wherever_wandb_would_find_it(
    no_account, monkeypatch, tmp_path, account
):
    if host := account.get("NETRC"):
        (tmp_path / "netrc").write_text(f"machine {host} login user password {'0' * 40}")
    for name in account.keys() - {"NETRC"}:
        monkeypatch.setenv(name, account[name])
    code = "from md2dist.runs.wandb_log import check_account; check_account('online')"
    # In a process of its own, since W&B would stay logged in.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
