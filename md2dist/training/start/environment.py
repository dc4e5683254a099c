"""Environment of a start: how its ranks were started and are connected, SLURM, devices, W&B."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

import torch
import torch.distributed as dist

from md2dist.distributed.devices import advise_on_gpu, describe_devices
from md2dist.distributed.world import World, sum_over_ranks
from md2dist.errors import Md2distError
from md2dist.training.start.checklist import Advice

_DEFAULT_PORT = 29500  # of deepspeed and torchrun
_SLURM = {
    "SLURM_JOB_NODELIST": "nodes",
    "SLURM_NTASKS": "tasks",
    "SLURM_CPUS_PER_TASK": "cores a task",
    "SLURM_RESTART_COUNT": "restarts",
}


def describe_port(world: World, environment: Mapping[str, str] = os.environ) -> str:
    """Describes where the ranks of this job have met, or would meet."""
    if world.world_size > 1:
        return f"the ranks met at {environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
    with suppress(OSError), socket.create_server(("", _DEFAULT_PORT)):
        return f"a single process needs none; {_DEFAULT_PORT}, the launchers' default, is free"
    return Advice(
        f"{_DEFAULT_PORT}, the launchers' default, is in use: start several ranks with deepspeed "
        "--master_port N or torchrun --master-port N"
    )


def check_connection(world: World) -> str:
    """Sums a number over all ranks on their devices, and describes what connects them.

    Raises:
        Md2distError: if the sum is wrong.
    """
    total = sum_over_ranks(torch.ones((), device=world.device)).item()
    if total != world.world_size:
        raise Md2distError(f"a sum over {world.world_size} ranks gives {total:g}")
    if world.device.type != "cuda":
        backend, prefix = dist.get_backend(), "GLOO_"
    else:
        version = ".".join(map(str, torch.cuda.nccl.version()))  # pyright: ignore
        backend, prefix = f"nccl {version}", "NCCL_"
    names = sorted(name for name in os.environ if name.startswith(prefix))
    shown = "".join(f", {name}={os.environ[name]}" for name in names)
    return f"{backend}, a sum over all ranks is right{shown}"


def describe_slurm(world: World, environment: Mapping[str, str] = os.environ) -> str:
    """Describes the SLURM job that this process belongs to."""
    job = environment.get("SLURM_JOB_ID")
    if job is None:
        return "not in a job"
    words = [
        f"{title} {environment[name]}" for name, title in _SLURM.items() if name in environment
    ]
    text = ", ".join([f"job {job}", *words])
    tasks = environment.get("SLURM_NTASKS", "1")
    if world.world_size == 1 and tasks not in ("", "1"):
        return Advice(f"{text}; but this is a single process: start all tasks with srun")
    return text


def describe_device(world: World) -> str:
    """Describes the devices of the ranks, and their free memory."""
    advice = advise_on_gpu(world.device)
    if advice is not None:
        return Advice(advice)
    text = describe_devices(world)
    if world.device.type != "cuda":
        return f"{text}, threads per rank: {torch.get_num_threads()}, torch {torch.__version__}"
    free, total = torch.cuda.mem_get_info(world.device)
    return f"{text}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free, torch {torch.__version__}"
