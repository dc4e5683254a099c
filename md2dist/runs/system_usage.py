"""Usage of the machines: a thread of each rank samples it, and rank 0 collects it, best effort."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import torch

from md2dist.distributed.channel import Channel
from md2dist.distributed.processes import identify_machine
from md2dist.distributed.world import World, gather_over_ranks

logger = logging.getLogger(__name__)

_FIRST_S, _PERIOD_S = 1.0, 5.0  # of samples; the CPU's is the mean since the one before
_ANSWER_S = 5.0
_GB = 1e9


@contextmanager
def sampling_usage(world: World, *, is_on: bool) -> Iterator[Callable[[], dict[str, float]]]:
    """Samples the usage of all nodes inside the block; all ranks enter it.

    Args:
        world: this process, connected.
        is_on: whether anything is sampled.

    Yields:
        A function that returns, on the main rank, the samples since its last call, by names such as
        `system/node0/cpu_percent`. It never waits: of a node that is late there is no value.
    """
    if not is_on:
        yield dict
        return
    nodes = gather_over_ranks((identify_machine(), world.node))
    number = list(dict.fromkeys(nodes)).index(nodes[world.rank])
    is_first = nodes.index(nodes[world.rank]) == world.rank
    sampler = UsageSampler(world, f"system/node{number}/", has_node=is_first)
    sampler.start()
    try:
        yield sampler.take
    finally:
        sampler.stop()


class UsageSampler:
    """Samples the GPU of a rank, and the node for one of its ranks, until it is stopped.

    Args:
        world: this process.
        prefix: of the names of the values.
        has_node: whether this rank samples the node.
        connect: opens a connection to the job's store.
    """

    def __init__(
        self,
        world: World,
        prefix: str,
        *,
        has_node: bool,
        connect: Callable[[float], Channel] = Channel.connect,
    ):
        self._world, self._prefix, self._has_node = world, prefix, has_node
        self._connect = connect
        self._collected: dict[str, float] = {}
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread, without waiting for a store that does not answer."""
        self._stopping.set()
        self._thread.join(1.0)

    def take(self) -> dict[str, float]:
        """Returns the newest values of all ranks, each once; empty where this is not rank 0."""
        with self._lock:
            values, self._collected = self._collected, {}
        return values

    def _run(self) -> None:
        psutil.cpu_percent()  # begins to count, for this thread
        channel, wait_s = None, _FIRST_S
        while not self._stopping.wait(wait_s):
            wait_s = _PERIOD_S
            try:
                channel = channel or self._connect(_ANSWER_S)
                self._exchange(channel)
            except (OSError, RuntimeError, psutil.Error) as error:
                logger.debug("no usage of this rank now: %s", error)
                channel = None

    def _exchange(self, channel: Channel) -> None:
        usage = read_node() if self._has_node else {}
        gpu = f"gpu{self._world.local_rank}_"
        usage |= {gpu + name: value for name, value in read_gpu(self._world.device).items()}
        channel.set_usage(
            self._world.rank, {self._prefix + name: value for name, value in usage.items()}
        )
        if self._world.is_main:
            collected = channel.take_usage(self._world.world_size)
            with self._lock:
                self._collected |= collected


def read_node() -> dict[str, float]:
    """Returns the usage of this node: CPU since the last call in %, and memory in GB."""
    memory = psutil.virtual_memory()
    used = (memory.total - memory.available) / _GB
    return {"cpu_percent": psutil.cpu_percent(), "memory_gb": used}


def read_gpu(device: torch.device) -> dict[str, float]:
    """Returns the usage of a GPU by all processes: memory in GB; in %, where NVML can be read."""
    if device.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    usage = {"memory_gb": (total - free) / _GB}
    with suppress(Exception):  # torch needs the package nvidia-ml-py; NVML has errors of its own
        usage["percent"] = float(torch.cuda.utilization(device))
    return usage
