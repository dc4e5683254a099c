import logging
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from md2dist.errors import ConfigError
from md2dist.runs.wandb_log import WandbLog, check_account


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def read_offline_run(path):
    """Yields the records of a .wandb file, which is a LevelDB log after a header of 7 bytes."""
    data, record, position = path.read_bytes(), b"", 7
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # complete, or the last part
            yield record
            record = b""


@pytest.mark.slow
def test_an_offline_run_holds_the_scalars_and_pictures_that_were_logged(no_account, tmp_path):
    from wandb.proto.wandb_internal_pb2 import Record

    log = WandbLog("auto", "test", tmp_path, "run7", {"optim": {"lr": 1e-4}})
    assert log.run_id == "run7"
    log.log({"train/loss": 0.25}, 10)
    log.log_picture("train/panel", np.zeros((4, 6, 3), np.uint8), 10)
    log.finish(exit_code=0)
    (path,) = (tmp_path / "logs" / "wandb").glob("offline-run-*-run7/run-run7.wandb")
    deadline, records = time.monotonic() + 60, []
    while not any(record.HasField("exit") for record in records):  # soon after the run's end
        assert time.monotonic() < deadline, records
        records = [Record.FromString(data) for data in read_offline_run(path)]
    items = [item for record in records for item in record.history.item]
    history = {item.key or "/".join(item.nested_key): item.value_json for item in items}
    assert history["train/loss"] == "0.25"
    assert history["_step"] == "10"
    assert history["train/panel/height"] == "4"


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
