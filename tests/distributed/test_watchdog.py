import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist
from torch.distributed.flight_recorder.components.loader import read_dump

from md2dist import machine_limits
from md2dist.distributed.failure import write_flight_recorder
from md2dist.distributed.world import find_free_port

pytestmark = pytest.mark.slow

STANDING_STILL = """
import sys, time
from md2dist.distributed.job import join_job
with join_job() as (world, watchdog):
    watchdog.set_hang_timeout(float(sys.argv[1]))
    for step in sys.argv[2:]:
        watchdog.report_saved(int(step))
    print("watching", flush=True)
    time.sleep(60)
"""


def start_standing_still(limit, *saved_steps):
    """A process that does nothing, watched by a watchdog that has begun when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", STANDING_STILL, str(limit), *map(str, saved_steps)],
        env={name: value for name, value in os.environ.items() if not name.startswith("SLURM")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "watching\n"
    return process


def test_a_standstill_ends_the_process_with_the_reason_and_the_stacks():
    process = start_standing_still(limit=2)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "error: no progress on any rank for 2 s (log.hang_timeout_s); rank 0: starting" in errors
    assert "most recent call first" in errors


def test_only_a_second_interrupt_two_seconds_after_the_first_ends_the_process_at_once():
    process = start_standing_still(limit=1000)
    for _ in range(2):  # launchers repeat it
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 130
    assert errors == "error: interrupted twice; nothing was saved\n"


def test_a_second_interrupt_names_the_last_checkpoint():
    process = start_standing_still(1000, 8, 12)
    process.send_signal(signal.SIGINT)
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 130
    assert errors == "error: interrupted twice; saved at step 12; the same command resumes\n"


SLOW_START = """
import sys, time
from md2dist.distributed.job import join_job
with join_job() as (world, watchdog):
    time.sleep(8 * world.is_main)
    watchdog.set_hang_timeout(4)
    for step in range(6 + 8 * (not world.is_main)):
        watchdog.report_progress("at step")
        time.sleep(1)
"""


def test_a_start_slower_than_the_hang_timeout_is_no_hang_and_no_death_of_rank_0():
    port = str(find_free_port())
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SLOW_START],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outcomes = [(rank.communicate(timeout=120)[1], rank.returncode) for rank in ranks]
    assert outcomes == [("", 0)] * 2


FAILING = """
import sys
from pathlib import Path
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import init_distributed
with Watchdog(init_distributed()) as watchdog:
    watchdog.report_to(Path(sys.argv[1]), on_failure=print)
    exec(sys.argv[2])
"""
FULL_MEMORY = """raise RuntimeError('''Caught RuntimeError in DataLoader worker process 0.
RuntimeError: unable to allocate shared memory(shm) for file </torch_1>: No space left''')"""


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("open('/nowhere/file')", "/nowhere/file: No such file or directory\n"),
        (FULL_MEMORY, machine_limits.FULL_MEMORY + "\n"),
    ],
)
def test_an_error_of_a_file_or_a_limit_is_one_line_and_its_stack_is_in_the_log(
    tmp_path, action, message
):
    log = tmp_path / "rank-0.log"
    command = [sys.executable, "-c", FAILING, str(log), action]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: " + message
    assert done.stdout == message
    assert "Traceback" in log.read_text()


def test_the_recorder_of_collectives_is_written_as_torch_reads_it(tmp_path):
    """The recorder of gloo stands for that of NCCL, which has the same format."""
    group = dist.ProcessGroupGloo(dist.HashStore(), 0, 1)
    group.allreduce([torch.ones(3)]).wait()
    path = tmp_path / "nccl-rank-0"
    write_flight_recorder(path, torch._C._distributed_c10d._dump_fr_trace)
    entries = read_dump("nccl-rank-", str(path))["entries"]
    assert entries[-1]["profiling_name"] == "gloo:all_reduce"
    assert entries[-1]["input_sizes"] == [[3]]


def test_without_nccl_no_recorder_is_written(tmp_path):
    assert not hasattr(torch._C._distributed_c10d, "_dump_nccl_trace") or pytest.skip("has NCCL")
    write_flight_recorder(tmp_path / "nccl-rank-0")
    assert list(tmp_path.iterdir()) == []
