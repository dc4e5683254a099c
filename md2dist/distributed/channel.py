"""The key-value store of a job: all keys that its ranks exchange, one method for each use.

torch.distributed keeps the store in the process of rank 0 or in the launcher. A connection serves
one thread, since an operation may wait; each thread opens its own.
"""

import json
import os
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Self

import torch.distributed as dist

from md2dist.distributed.failure import Failure
from md2dist.distributed.heartbeat import Heartbeat
from md2dist.storage.typed_json import parse_json

_MEETING, _STOP, _FAILURE = "meeting", "stop", "failure"
_TAKE, _SKIP = b"take", b"skip"
_FOREVER = timedelta(days=365)  # the watchdog limits the wait

_meeting = ""  # unique name of this start of the job's processes, the same on all ranks


def name_meeting(store: Any) -> None:
    """Chooses a unique name for this start of the job's processes; rank 0 calls it.

    A launcher that restarts the processes may keep the store. With the name as a prefix of the
    keys, they do not read those of the start before.

    Args:
        store: the store through which the process group is initialised, which happens next.
    """
    store.set(_MEETING, uuid.uuid4().hex)


def read_meeting(store: Any) -> None:
    """Reads the name that rank 0 has chosen, after the process group is initialised.

    No variable would do: torchrun counts restarts on each node separately. Nor would a broadcast:
    no watchdog watches over the ranks yet.
    """
    global _meeting
    _meeting = store.get(_MEETING).decode()


class Channel:
    """One connection to the store, for one thread.

    Args:
        store: a store of torch.distributed, the same for all ranks.
    """

    def __init__(self, store: Any):
        self._store = store

    @classmethod
    def connect(cls, timeout_s: float = 300.0) -> Self:
        """Opens a new connection to the store of this job, after `init_distributed`.

        Args:
            timeout_s: time after which an operation raises a `torch.distributed.DistError`.
        """
        store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=timeout_s),
        )
        prefix = f"md2dist/{_meeting}"
        return cls(dist.PrefixStore(prefix, store))  # pyright: ignore[reportPrivateImportUsage]

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
        message = failure.message.encode(errors="backslashreplace").decode()  # names may be no text
        failure = failure._replace(message=message)
        announced = self._store.compare_set(_FAILURE, "", json.dumps(failure))
        return parse_json(announced, Failure)

    def failure(self) -> Failure | None:
        """Returns the announced failure, if any."""
        if not self._store.check([_FAILURE]):
            return None
        return parse_json(self._store.get(_FAILURE), Failure)

    def add_ready(self, step: int) -> int:
        """Counts this rank as ready for a step; returns the number of ready ranks."""
        return self._store.add(f"{step}/ready", 1)

    def set_verdict(self, step: int, *, is_taken: bool) -> None:
        """Decides for all ranks whether a step is taken."""
        self._store.set(f"{step}/verdict", _TAKE if is_taken else _SKIP)

    def wait_for_verdict(self, step: int) -> bool:
        """Waits for the decision on a step; returns whether it is taken."""
        self._store.wait([f"{step}/verdict"], _FOREVER)
        return self._store.get(f"{step}/verdict") == _TAKE

    def forget_step(self, step: int) -> None:
        """Deletes the keys of a step; all ranks must have read its verdict."""
        for name in ("ready", "verdict"):
            self._store.delete_key(f"{step}/{name}")


def _heartbeat_key(rank: int) -> str:
    return f"heartbeat/{rank}"
