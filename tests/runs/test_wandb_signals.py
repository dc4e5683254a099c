"""W&B's files when signals reach a training: they are closed as at a normal end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.running_job import all_processes
from helpers.wandb_files import history_of, records_of

PROGRAM = """
import signal, sys, time
from pathlib import Path
from md2dist.runs.wandb.log import WandbLog

received = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: received.append(number))
log = WandbLog("offline", "test", Path(sys.argv[1]), "run7", {})
for step in range(1, 9):
    log.log({"train/loss": 1 / step}, step)
print("running", flush=True)
while not received:
    time.sleep(0.05)
time.sleep(0.5)  # saving
log.log({"train/loss": 1 / 9}, 9)
log.finish(exit_code=3)
"""


def descendants_of(parent):
    children = {pid for pid, fields in all_processes() if int(fields[1]) == parent}
    return children.union(*map(descendants_of, children))


def signal_group(pid, number):
    """As a terminal does."""
    os.killpg(pid, number)


def signal_tree(pid, number):
    """As DeepSpeed's launcher does."""
    for process in [*descendants_of(pid), pid]:
        os.kill(process, number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("send", "number"), [(signal_group, signal.SIGINT), (signal_tree, signal.SIGTERM)]
)
def test_a_signal_to_all_processes_leaves_a_complete_and_closed_offline_run(tmp_path, send, number):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, tmp_path],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "running\n"
    send(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    (path,) = (tmp_path / "logs" / "wandb").glob("offline-run-*-run7/run-run7.wandb")
    records = records_of(path)
    assert [row["step"] for row in history_of(records)] == list(range(1, 10))
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [3]
