"""Faults of the drill, with the expected outcome of each."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from helpers import fault_injection
from helpers.fault_injection import cut_power_and, signal_and_stop, signal_to
from helpers.running_job import RunningJob


class Fault(NamedTuple):
    """One fault, injected into a running job from outside."""

    name: str
    inject: Callable[[RunningJob], None]
    status: str  # of the run afterwards: preempted (saved), failed, or running (all killed)
    num_lost_checkpoints: int = 0  # destroyed by the fault itself
    environment: tuple[tuple[str, str], ...] = (("WANDB_MODE", "offline"),)
    wrapper: tuple[str, ...] = ()  # command that starts `deepspeed`
    has_wandb: bool = True  # whether W&B's own files are complete if the run is saved


NO_WANDB = (
    ("WANDB_MODE", "online"),
    ("WANDB_API_KEY", "0" * 40),
    ("WANDB_BASE_URL", "http://127.0.0.1:9"),
)

TIMEOUT = ("timeout", "-s", "TERM", "3600")  # its alarm is sent to it, at the chosen moment


def list_faults(shards: Path) -> list[Fault]:
    """Lists all faults, each once.

    Args:
        shards: the job's training shards, which one fault damages temporarily.
    """

    def damage_shards(job: RunningJob) -> None:
        with fault_injection.damaged(shards):
            job.wait_for_end(seconds=120)

    return [
        *(
            Fault(f"{number.name} to {name}", signal_to(name, number), "preempted")
            for number in (signal.SIGTERM, signal.SIGUSR1)
            for name in ("deepspeed", "launch", "rank 0", "rank 1")
        ),
        Fault("SIGUSR1 to worker", signal_to("worker", signal.SIGUSR1), "preempted"),
        Fault(
            "SIGTERM to worker, then to rank 0",
            signal_and_stop("worker", signal.SIGTERM),
            "preempted",
        ),
        Fault("SIGTERM to all processes", signal_to("all", signal.SIGTERM), "preempted"),
        Fault("SIGINT to all processes (Ctrl-C)", signal_to("all", signal.SIGINT), "preempted"),
        Fault("end of timeout", signal_to("first", signal.SIGALRM), "preempted", wrapper=TIMEOUT),
        Fault("SIGTERM and SIGUSR1 without end", fault_injection.signal_repeatedly, "preempted"),
        Fault(
            "SIGKILL to W&B", signal_and_stop("wandb", signal.SIGKILL), "preempted", has_wandb=False
        ),
        Fault(
            "W&B out of reach",
            signal_to("rank 0", signal.SIGTERM),
            "preempted",
            environment=NO_WANDB,
            has_wandb=False,
        ),
        Fault("SIGKILL to deepspeed", signal_to("deepspeed", signal.SIGKILL), "preempted"),
        Fault("SIGKILL to launch", signal_to("launch", signal.SIGKILL), "preempted"),
        Fault("SIGKILL to rank 0", signal_to("rank 0", signal.SIGKILL), "failed"),
        Fault("SIGKILL to rank 1", signal_to("rank 1", signal.SIGKILL), "failed"),
        Fault("SIGKILL to worker", signal_to("worker", signal.SIGKILL), "failed"),
        Fault("SIGSTOP to rank 1", signal_to("rank 1", signal.SIGSTOP), "failed"),
        Fault("SIGSTOP to worker", signal_to("worker", signal.SIGSTOP), "failed"),
        Fault("power cut", fault_injection.cut_power, "running"),
        Fault("power cut while saving", fault_injection.cut_power_while_saving, "running"),
        Fault(
            "half a line in metrics.jsonl", cut_power_and(fault_injection.tear_a_line), "running"
        ),
        *(
            Fault(f"newest checkpoint: {name}", cut_power_and(damage), "running", 1)
            for name, damage in (
                ("a byte flipped", fault_injection.flip_a_byte),
                ("cut short", fault_injection.cut_short),
                ("no weights", fault_injection.remove_weights),
                ("no manifest", fault_injection.remove_manifest),
            )
        ),
        Fault("full disk while saving", fault_injection.fill_the_disk, "preempted"),
        Fault("damaged shards", damage_shards, "failed"),
    ]
