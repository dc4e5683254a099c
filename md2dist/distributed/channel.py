"""The key-value store of a job: all keys that its ranks exchange, one method for each use.

torch.distributed keeps the store in the process of rank 0 or in the launcher. A connection serves
one thread, since an operation may wait; each thread opens its own.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Self

import torch.distributed as dist

from md2dist.distributed.failure import Failure
from md2dist.distributed.heartbeat import Heartbeat
from md2dist.storage.typed_json import parse_json

_MEETING = "md2dist/meeting"
_STOP, _FAILURE = "stop", "failure"


class Member(NamedTuple):
    """One process that takes part in a meeting."""

    job: str  # name that its launcher gave to the job, if any
    machine: str  # unique
    node: str  # number that its launcher gave to the node, if any; a machine may stand for several
    launcher: str  # process that started it, if known
    process: str  # for messages
    token: str  # unique


class Meeting(NamedTuple):
    """One start of the processes of a job, which rank 0 opens in the store."""

    name: str  # unique
    world_size: int
    host: Member  # rank 0


class Lobby:
    """Keys through which the ranks of a job meet, before a `Channel` can be used.

    Args:
        store: a store of torch.distributed, possibly that of another job.
    """

    def __init__(self, store: Any):
        self._store = store

    def open(self, meeting: Meeting) -> None:
        """Opens a meeting, in place of that of an earlier start; rank 0 calls it."""
        self._store.set(_MEETING, json.dumps(meeting))

    def meeting(self) -> Meeting | None:
        """Returns the newest meeting.

        Raises:
            ValueError: if the store is that of another version of md2dist.
        """
        if not self._store.check([_MEETING]):
            return None
        try:
            name, world_size, host = json.loads(self._store.get(_MEETING))
            return Meeting(name, world_size, Member(*host))
        except TypeError as error:
            raise ValueError(error) from None

    def enter(self, meeting: Meeting, rank: int, member: Member) -> Member:
        """Takes the place of a rank, once; returns the member that has it."""
        place = f"{_prefix(meeting)}/member/{rank}"
        return Member(*json.loads(self._store.compare_set(place, "", json.dumps(member))))

    def has_entered(self, meeting: Meeting, rank: int) -> bool:
        """Whether the place of a rank is taken."""
        return self._store.check([f"{_prefix(meeting)}/member/{rank}"])

    def members(self, meeting: Meeting) -> list[Member]:
        """Returns the members, all of which have entered, by rank."""
        keys = [f"{_prefix(meeting)}/member/{rank}" for rank in range(meeting.world_size)]
        return [Member(*json.loads(text)) for text in self._store.multi_get(keys)]

    def conclude(self, meeting: Meeting, fault: str = "") -> None:
        """Closes the meeting: it is complete, or a fault prevents the job; rank 0 calls it."""
        self._store.set(f"{_prefix(meeting)}/conclusion", fault)

    def conclusion(self, meeting: Meeting) -> str | None:
        """Returns the fault, empty if the meeting is complete; None while it is open."""
        key = f"{_prefix(meeting)}/conclusion"
        return self._store.get(key).decode() if self._store.check([key]) else None


class StoreAddress(NamedTuple):
    """Where the store of this job is, and the prefix of the keys of this start."""

    host: str
    port: int
    prefix: str


_address: StoreAddress | None = None  # one job per process


def adopt_meeting(meeting: Meeting, host: str, port: int, store: Any) -> Any:
    """Makes all channels use the keys of a meeting.

    Args:
        meeting: the meeting, complete.
        host: host of the store.
        port: port of the store.
        store: a connection to it.

    Returns:
        The part of the store that the process group may use.
    """
    global _address
    _address = StoreAddress(host, port, _prefix(meeting))
    return dist.PrefixStore(f"{_address.prefix}/group", store)  # pyright: ignore[reportPrivateImportUsage]


def store_host() -> str:
    """Returns the host of the store of this job, after `meet_ranks`."""
    assert _address is not None
    return _address.host


def connect_store(name: str, timeout_s: float) -> Any:
    """Opens a new connection to the store of this job, after `meet_ranks`.

    Args:
        name: prefix of its keys.
        timeout_s: time after which an operation raises a `torch.distributed.DistError`.

    Returns:
        A store of torch.distributed, for one thread.
    """
    assert _address is not None
    host, port, prefix = _address
    store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        host, port, is_master=False, timeout=timedelta(seconds=timeout_s)
    )
    return dist.PrefixStore(f"{prefix}/{name}", store)  # pyright: ignore[reportPrivateImportUsage]


class Channel:
    """One connection to the store, for one thread.

    Args:
        store: a store of torch.distributed, the same for all ranks.
    """

    def __init__(self, store: Any):
        self._store = store

    @classmethod
    def connect(cls, timeout_s: float) -> Self:
        """Opens a new connection; see `connect_store`."""
        return cls(connect_store("watchdog", timeout_s))

    def set_heartbeat(self, rank: int, heartbeat: Heartbeat) -> None:
        """Replaces the heartbeat of a rank."""
        self._store.set(_heartbeat_key(rank), json.dumps(heartbeat))

    def heartbeats(self, ranks: Sequence[int]) -> dict[int, Heartbeat] | None:
        """Returns the newest heartbeats of some ranks; None until each of them has sent one."""
        keys = [_heartbeat_key(rank) for rank in ranks]
        if not self._store.check(keys):
            return None
        texts = self._store.multi_get(keys)
        return {rank: parse_json(text, Heartbeat) for rank, text in zip(ranks, texts, strict=True)}

    def set_usage(self, rank: int, usage: Mapping[str, float]) -> None:
        """Replaces the usage of a rank's machine, by name."""
        self._store.set(_usage_key(rank), json.dumps(usage))

    def take_usage(self, world_size: int) -> dict[str, float]:
        """Removes and returns the usage of the machines, of all ranks that have sent it."""
        usage: dict[str, float] = {}
        for key in map(_usage_key, range(world_size)):
            if self._store.check([key]):
                usage |= json.loads(self._store.get(key))
                self._store.delete_key(key)
        return usage

    def request_stop(self, reason: str) -> None:
        """Makes all ranks stop before their next step; the first reason stays."""
        self._store.compare_set(_STOP, "", reason)

    def stop_reason(self) -> str | None:
        """Returns the reason of a requested stop, if any."""
        return self._store.get(_STOP).decode() if self._store.check([_STOP]) else None

    def announce_failure(self, failure: Failure) -> Failure:
        """Announces to all ranks that the job has failed.

        Args:
            failure: the reason as this rank sees it.

        Returns:
            The first announced failure, which all ranks report.
        """
        message = failure.message.encode(
            errors="backslashreplace"
        ).decode()  # file names may not be valid text
        failure = failure._replace(message=message)
        announced = self._store.compare_set(_FAILURE, "", json.dumps(failure))
        return parse_json(announced, Failure)

    def failure(self) -> Failure | None:
        """Returns the announced failure, if any."""
        if not self._store.check([_FAILURE]):
            return None
        return parse_json(self._store.get(_FAILURE), Failure)


def _heartbeat_key(rank: int) -> str:
    return f"heartbeat/{rank}"


def _usage_key(rank: int) -> str:
    return f"usage/{rank}"


def _prefix(meeting: Meeting) -> str:
    return f"md2dist/{meeting.name}"
