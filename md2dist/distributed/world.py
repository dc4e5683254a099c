"""The processes of a job: rank, rendezvous, and collective operations."""

import os
import random
import socket
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from md2dist.distributed.channel import name_meeting, read_meeting
from md2dist.distributed.slurm import torch_names
from md2dist.distributed.topology import Topology
from md2dist.errors import ConfigError


class World(NamedTuple):
    """Place and device of this process among the processes of the job."""

    rank: int  # 0 .. world_size - 1 over all nodes
    local_rank: int  # 0 .. on this node
    world_size: int
    device: torch.device
    node_size: int = 1  # ranks on this node
    is_launched: bool = False  # whether a launcher started it; the process ends with it

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints messages."""
        return self.rank == 0

    def topology(self) -> Topology:
        """Returns the place of this process as a plain value."""
        return Topology(self.rank, self.world_size, self.local_rank, self.node_size)


_PATIENCE = timedelta(minutes=30)  # of a collective; the watchdog reacts sooner


def read_world() -> World:
    """Reads rank and size from the variables of a launcher or srun; a single process without.

    Returns:
        The world; its device is the GPU of this local rank, if any, else the CPU.
    """
    is_launched = "RANK" in os.environ
    if not is_launched:
        # Variables that are set take precedence.
        os.environ.update(torch_names(os.environ) | os.environ)
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    use_cuda = torch.cuda.is_available()
    return World(
        rank=int(os.environ.get("RANK", "0")),
        local_rank=local_rank,
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        device=torch.device("cuda", local_rank % torch.cuda.device_count())
        if use_cuda
        else torch.device("cpu"),
        node_size=int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("LOCAL_SIZE", "1"))),
        is_launched=is_launched,
    )


def init_distributed() -> World:
    """Connects this process with the others: NCCL on GPUs, gloo on CPUs.

    Returns:
        The world, connected until `shutdown_distributed`.
    """
    world = read_world()
    _share_cores(world)
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    else:
        # With it, DeepSpeed neither searches for accelerators nor warns of their absence.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if world.world_size == 1:
        os.environ.setdefault("RANK", "0")
        os.environ.setdefault("LOCAL_RANK", "0")
        os.environ.setdefault("WORLD_SIZE", "1")
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", str(find_free_port()))
    elif "MASTER_ADDR" not in os.environ:
        raise ConfigError(
            f"this is one of {world.world_size} processes, but MASTER_ADDR is not set; start them "
            "with deepspeed, torchrun or srun, or export MASTER_ADDR (where rank 0 runs) and "
            "MASTER_PORT"
        )
    # Our watchdog ends ranks that have lost another one, with the reason; NCCL's own watchdog would
    # abort them before.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    backend = "nccl" if world.device.type == "cuda" else "gloo"
    store, rank, world_size = next(
        rendezvous("env://", world.rank, world.world_size, timeout=_PATIENCE)
    )
    if world.is_main:
        name_meeting(store)
    dist.init_process_group(
        backend, store=store, timeout=_PATIENCE, rank=rank, world_size=world_size
    )
    read_meeting(store)
    return world


def shutdown_distributed() -> None:
    """Closes the connection with the other processes, if any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """Sums a tensor over all ranks; without a connection, returns it unchanged.

    Args:
        tensor: any shape (...), the same on every rank, on any device.

    Returns:
        The sum, the same on every rank and on the tensor's own device.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return tensor
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    total = tensor.to(device, copy=True)
    dist.all_reduce(total)
    return total.to(tensor.device)


def barrier() -> None:
    """Waits until every rank has called it."""
    if dist.is_initialized():
        dist.barrier()


def find_free_port() -> int:
    """Finds a free port of this machine.

    It is below the ports of outgoing connections, one of which could take it before it is used, and
    differs between processes, whatever the seeds.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port


def cores_per_rank(node_size: int) -> int:
    """Returns the number of cores that each of a node's ranks may use, at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // node_size)


def _share_cores(world: World) -> None:
    """Divides the node's cores among its ranks, unless the user did; launchers do not."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores_per_rank(world.node_size))
