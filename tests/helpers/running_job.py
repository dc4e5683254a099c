"""Training job that is observed and controlled from outside while it runs."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from md2dist.distributed.world import find_free_port

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "WANDB_MODE": "disabled",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


class RunningJob:
    """A `deepspeed` launch of launch/train.py in its own session, by default with two ranks.

    Names of its processes: "first" (the wrapper, or "deepspeed" without one), "deepspeed", "launch"
    (the node's launcher), "rank 0", "rank 1", "worker" (a loader worker of the last rank) and
    "wandb" (the writer process of W&B).

    Args:
        run_dir: the run's folder; the job's output is written to a file beside it.
        words: arguments after `launch/train.py --config`.
        launcher: arguments of `deepspeed`.
        node: index of the node; each node has its own job and output file.
        wrapper: command that starts `deepspeed`, such as timeout with its arguments.
        **environment: variables in addition to those of all tests.
    """

    def __init__(self, run_dir, words, launcher=None, node=0, wrapper=(), **environment):
        self.run_dir = run_dir
        launcher = launcher or ["--num_gpus", 2, "--master_port", find_free_port()]
        words = [*words, f"log.run_dir={run_dir}"]
        self._is_wrapped = bool(wrapper)
        command = [*wrapper, "deepspeed", *launcher, "launch/train.py", "--config", *words]
        self._output = run_dir.with_suffix(f".{node}.txt")
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT,
                env={**os.environ, **ENVIRONMENT, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def pid(self, name):
        """Returns the process ID of one of the job's processes."""
        if name == "first":
            return self._process.pid
        (deepspeed,) = children_of(self._process.pid) if self._is_wrapped else [self._process.pid]
        if name == "deepspeed":
            return deepspeed
        (launch,) = children_of(deepspeed)
        if name == "launch":
            return launch
        ranks = children_of(launch)
        if name == "worker":
            return children_of(ranks[-1])[-1]
        if name == "wandb":
            return wandb_of(ranks[0])
        return ranks[int(name.split()[1])]

    def send(self, number, name):
        """Sends a signal to one of the job's processes, or to "all" at once, as a terminal does."""
        for pid in processes_of(self._process.pid) if name == "all" else [self.pid(name)]:
            with suppress(ProcessLookupError):  # has just ended
                os.kill(pid, number)

    def status(self):
        """Returns the content of status.json; empty before it exists."""
        path = self.run_dir / "status.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def output(self):
        """Returns the terminal output of the job so far."""
        return self._output.read_text()

    def wait_until(self, condition, seconds=120):
        """Waits until a condition holds; fails if the job ends before."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.status()
            time.sleep(0.05)

    def wait_for_end(self, seconds):
        """Waits until all processes have exited; returns the first one's exit code, and output."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None or processes_of(self._process.pid):
            left = list(map(command_of, processes_of(self._process.pid)))
            assert time.monotonic() < deadline, (left, self.output())
            time.sleep(0.05)
        return self._process.returncode, self.output()

    def kill(self):
        """Kills all remaining processes of the job at once, like a power cut."""
        self.send(signal.SIGKILL, "all")
        self._process.wait()


def processes_of(session):
    """Returns the live processes of a session, including stopped ones."""
    return {pid for pid, fields in all_processes() if int(fields[3]) == session}


def is_running(pid):
    """Returns whether a process runs; a zombie does not."""
    return any(other == pid for other, _ in all_processes())


def children_of(parent):
    """Returns the children of a process in the order of their start."""
    return sorted(pid for pid, fields in all_processes() if int(fields[1]) == parent)


def wandb_of(rank):
    """Returns W&B's process of a rank: not its child, but with the variables of its job."""
    port = next(entry for entry in environment_of(rank) if entry.startswith(b"MASTER_PORT="))
    return next(
        pid
        for pid, _ in all_processes()
        if "wandb-core" in command_of(pid)[1] and port in environment_of(pid)
    )


def environment_of(pid):
    """Returns the variables that a process was started with, as NAME=VALUE."""
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def all_processes():
    """Yields live processes with the fields of /proc/PID/stat: state, parent, group, session."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            yield int(entry.name), fields


def command_of(pid):
    """Returns the process ID and command line of a process, for messages."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return pid, "(gone)"
    return pid, words.replace(b"\0", b" ").decode()
