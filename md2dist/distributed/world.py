"""The processes of a job: rank, rendezvous, and collective operations."""

import os
import random
import socket
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from md2dist.distributed.channel import adopt_meeting
from md2dist.distributed.launcher import Launch, read_launch
from md2dist.distributed.rendezvous import meet
from md2dist.distributed.topology import Topology
from md2dist.distributed.waiting import CONNECTION_REMEDY, waiting_for


class World(NamedTuple):
    """Place and device of this process among the processes of the job."""

    rank: int  # 0 .. world_size - 1 over all nodes
    local_rank: int  # 0 .. on this node
    world_size: int
    device: torch.device
    node_size: int = 1  # ranks on this node
    is_launched: bool = False  # whether a launcher started it; the process ends with it
    node: str = ""  # number that the launcher gave to the node, if any

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints messages."""
        return self.rank == 0

    def topology(self) -> Topology:
        """Returns the place of this process as a plain value."""
        return Topology(self.rank, self.world_size, self.local_rank, self.node_size)


_COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # of a collective; the watchdog reacts sooner


def read_world() -> World:
    """Reads rank and size from the variables of a launcher, srun or mpirun.

    Returns:
        The world, of a single process without these variables; its device is the GPU of this local
        rank, if any, else the CPU.

    Raises:
        ConfigError: if a variable is missing or has an impossible value.
    """
    return _make_world(read_launch(os.environ))


def meet_ranks() -> tuple[World, Any]:
    """Waits until all ranks of the job have joined; a `Watchdog` can watch it from then on.

    Returns:
        The world, and the store through which `connect_ranks` connects it.

    Raises:
        ConfigError: if this process does not belong to the job at its address, or does not find it.
    """
    launch = read_launch(os.environ)
    world = _make_world(launch)
    store, meeting = meet(launch)
    host, port = (
        (launch.address, launch.port) if world.world_size > 1 else ("localhost", store.port)
    )
    os.environ.update(  # for DeepSpeed
        RANK=str(world.rank),
        LOCAL_RANK=str(world.local_rank),
        WORLD_SIZE=str(world.world_size),
        MASTER_ADDR=host,
        MASTER_PORT=str(port),
    )
    return world, adopt_meeting(meeting, host, port, store)


def connect_ranks(world: World, store: Any) -> None:
    """Connects this process with the others: NCCL on GPUs, gloo on CPUs.

    Args:
        world: this process.
        store: the one that `meet_ranks` returned.
    """
    _share_cores(world)
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
        # NCCL records its last collectives; the watchdog writes them to the logs if they hang.
        os.environ.setdefault("TORCH_FR_BUFFER_SIZE", "2000")
    else:
        # With it, DeepSpeed neither searches for accelerators nor warns of their absence.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # Our watchdog ends ranks that have lost another one, with the reason; NCCL's own watchdog would
    # abort them before.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    backend = "nccl" if world.device.type == "cuda" else "gloo"
    with waiting_for(
        "the connections between all ranks", CONNECTION_REMEDY, is_quiet=world.local_rank > 0
    ):
        dist.init_process_group(
            backend,
            store=store,
            timeout=_COLLECTIVE_TIMEOUT,
            rank=world.rank,
            world_size=world.world_size,
        )


def init_distributed() -> World:
    """Joins the job and connects this process with the others, without a watchdog.

    Returns:
        The world, connected until `shutdown_distributed`.

    Raises:
        ConfigError: see `meet_ranks`.
    """
    world, store = meet_ranks()
    connect_ranks(world, store)
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


def gather_over_ranks(value: Any) -> list[Any]:
    """Gathers a small value of every rank, which pickle copies; every rank must call.

    Returns:
        The values by rank, the same on every rank; without a connection, only this one's.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


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


def _make_world(launch: Launch) -> World:
    is_on_gpu = torch.cuda.is_available()
    number = launch.local_rank % torch.cuda.device_count() if is_on_gpu else 0
    return World(
        rank=launch.rank,
        local_rank=launch.local_rank,
        world_size=launch.world_size,
        device=torch.device("cuda", number) if is_on_gpu else torch.device("cpu"),
        node_size=launch.node_size,
        is_launched=launch.is_launched,
        node=launch.node,
    )
