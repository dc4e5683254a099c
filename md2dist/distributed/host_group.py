"""Group of all ranks over the network of the hosts, for values that all of them must know.

The smallest value is found by dissemination: in round i, a rank sends what it knows to the rank
2^i places further, so that after ceil(log2 N) rounds all N ranks know the smallest value of all. No
rank does more than another. The time of gloo's own all-reduce, a ring, would grow with N.
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Self

import torch
import torch.distributed as dist

from md2dist.distributed.channel import connect_store, store_host
from md2dist.distributed.topology import Topology
from md2dist.distributed.waiting import CONNECTION_REMEDY, waiting_for

_Gloo: Any = dist.ProcessGroupGloo  # pyright: ignore[reportPrivateImportUsage]
# gloo aborts a process that closes a connection while its own thread finds that it is lost, so
# groups stay connected when an exception has left them.
_connected: list[Any] = []
_FOREVER = timedelta(days=365)  # the watchdog limits the wait


class HostGroup:
    """All ranks of the job, connected by gloo from host to host: the device takes no part.

    Args:
        store: a store of torch.distributed, for this group alone.
        rank: of this process.
        world_size: number of ranks, each of which creates the group.
        device: of gloo, with connections that are opened when first used.
    """

    def __init__(self, store: Any, rank: int, world_size: int, device: Any = None):
        self._rank, self._world_size = rank, world_size
        options = _Gloo._Options()
        options._devices, options._timeout = [device or _make_device()], _FOREVER
        self._group = _Gloo(store, rank, world_size, options)

    @classmethod
    def connect(cls, name: str, topology: Topology) -> Self:
        """Creates and connects a group, after `meet_ranks`, until this process ends.

        All ranks call it.

        Args:
            name: of the group, unique in the job.
            topology: place of this process.
        """
        subject, is_quiet = "the connections between all hosts", topology.local_rank > 0
        with waiting_for(subject, CONNECTION_REMEDY, is_quiet=is_quiet):
            store = connect_store(f"group/{name}", _FOREVER.total_seconds())
            device = _make_device(store_host())
            group = cls(store, topology.rank, topology.world_size, device)
            group.minimum([0])  # opens the connections
        _connected.append(group)
        return group

    def minimum(self, values: Sequence[int]) -> list[int]:
        """Returns the smallest of each value over all ranks; all call it, in the same order.

        Args:
            values: of 32 bits, equally many on all ranks.

        Returns:
            The smallest values, the same on all ranks.

        Raises:
            RuntimeError: of gloo, if a rank from which this one receives has ended.
        """
        smallest = torch.tensor(values, dtype=torch.int32)
        received, distance = torch.empty_like(smallest), 1
        while distance < self._world_size:
            target = (self._rank + distance) % self._world_size
            source = (self._rank - distance) % self._world_size
            sending = self._group.send([smallest], target, 0)
            self._group.recv([received], source, 0).wait()
            sending.wait()
            smallest = torch.minimum(smallest, received)
            distance *= 2
        return smallest.tolist()


def _make_device(host: str | None = None) -> Any:
    """Makes gloo's device on the network of GLOO_SOCKET_IFNAME, or that towards a host."""
    if interfaces := os.environ.get("GLOO_SOCKET_IFNAME"):
        return _Gloo.create_device(interface=interfaces.split(",")[0], lazy_init=True)
    # The name of a host may stand for an address that other hosts do not reach.
    if host is not None and (address := _find_own_address(host)) is not None:
        return _Gloo.create_device(hostname=address, lazy_init=True)
    return _Gloo.create_default_device(lazy_init=True)


def _find_own_address(host: str) -> str | None:
    """Finds the address from which this machine reaches a host; None if it is the host."""
    with suppress(OSError):
        family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            own = probe.getsockname()[0]
        if not ip_address(own.partition("%")[0]).is_loopback:
            return own
    return None
