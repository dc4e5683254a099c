"""SLURM cluster of two nodes on this machine, with its own keys, ports and folder."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from conftest import run_command

from md2dist.distributed.world import find_free_port

# Node names must resolve; these do on every machine. SLURM delays a requeued job for the lifetime
# of a credential (cred_expire). The GPUs are simulated.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SchedulerParameters=bf_interval=2,sched_interval=2
MailProg=/bin/true
NodeName=127.0.0.1 NodeHostname={host} Port={ports[1]} CPUs={cpus} Gres=gpu:2
NodeName=127.0.0.2 NodeHostname={host} Port={ports[2]} CPUs={cpus} Gres=gpu:2
PartitionName=all Nodes=ALL Default=YES
"""
NODES = ("127.0.0.1", "127.0.0.2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")


class Cluster:
    """Client of a running cluster: runs SLURM's commands as a user does."""

    def __init__(self, configuration: Path):
        self.environment = {"SLURM_CONF": str(configuration)}

    def call(self, *command: object, **environment: str) -> str:
        """Runs a SLURM command and returns its output."""
        process = run_command(command, **self.environment, **environment)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout.strip()

    def submit(self, *words: object, **environment: str) -> str:
        """Submits a batch script and returns the job ID."""
        return self.call("sbatch", "--parsable", *words, **environment)

    def job(self, number: str) -> dict[str, str]:
        """Returns the properties of a job: JobState, ExitCode, Restarts, ..."""
        shown = self.call("scontrol", "--oneliner", "show", "job", number).splitlines()[-1]
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)

    def wait_for_end(self, number: str) -> dict[str, str]:
        """Waits until a job has ended on all nodes."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        wait_until(lambda: self.job(number)["JobState"] in ends)
        return self.job(number)


@contextmanager
def start_cluster(folder: Path) -> Iterator[Cluster]:
    """Starts the daemons; stops them on exit, also after an error."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null,/dev/zero\n")
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname(),
            user=getpass.getuser(),
            folder=folder,
            cpus=os.cpu_count(),
            ports=[find_free_port() for _ in range(3)],
        )
    )
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    with (folder / "daemons.log").open("a") as log, ExitStack() as daemons:

        def start(name: str, *words: str) -> None:
            command = [find_program(name), *words]
            environment = {**os.environ, "SLURM_CONF": str(configuration)}
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            daemons.callback(stop, process)

        start("munged", "--foreground", f"--socket={folder}/munge.socket", "--force", *munge)
        wait_until((folder / "munge.socket").is_socket)
        start("slurmctld", "-D")
        for node in NODES:
            start("slurmd", "-D", "-N", node)
        cluster = Cluster(configuration)
        sinfo = ["sinfo", "--noheader", "--Node", "--format", "%T"]
        wait_until(lambda: run_command(sinfo, **cluster.environment).stdout.split() == ["idle"] * 2)
        daemons.callback(cluster.call, "scancel", "--full", "--signal=KILL", "--state=RUNNING")
        yield cluster


def find_program(name: str) -> str | None:
    """Finds a program on PATH or in the folders for system programs."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminates a daemon and waits for it."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 150) -> None:
    """Waits until a condition holds; fails after a timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"condition not met within {seconds} s: {condition}"
        time.sleep(0.2)
