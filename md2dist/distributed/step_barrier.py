"""Ranks begin a step together: when all of them have its data, and nobody has asked to stop.

So a step that is begun can be finished, and all ranks stop after the same one, also while one of
them waits for data. They agree through the job's key-value store, host to host: the device is not
waited for, and has the step before to work on meanwhile.
"""

from datetime import timedelta
from typing import Any

_GO, _STOP = b"go", b"stop"
_ASKED = "stop asked"
_FOR_EVER = timedelta(days=365)  # how long is too long is for the watch to say


class StepBarrier:
    """One rank's side of the agreement.

    Args:
        store: of torch.distributed, the same for all ranks; used by this object's thread alone.
        world_size: number of ranks.
    """

    def __init__(self, store: Any, world_size: int):
        self._store, self._world_size = store, world_size

    def wait(self, step: int, has_data: bool) -> bool:
        """Agrees with the other ranks on taking a step; all call it, once per step, in order.

        Args:
            step: counted from the run's start.
            has_data: whether this rank can take it; one that cannot calls when it knows that a
                stop has been asked for.

        Returns:
            The same on all ranks: whether to take it. After False there is nothing to begin.
        """
        verdict = f"{step}/verdict"
        if not has_data:
            self._store.set(verdict, _STOP)
        elif self._store.add(f"{step}/ready", 1) == self._world_size:
            self._store.set(verdict, _STOP if self._store.check([_ASKED]) else _GO)
            self._forget(step - 1)  # all have read it
        self._store.wait([verdict], _FOR_EVER)
        return self._store.get(verdict) == _GO

    def _forget(self, step: int) -> None:
        for name in ("ready", "verdict"):
            self._store.delete_key(f"{step}/{name}")


def ask_to_stop(store: Any, reason: str) -> None:
    """Makes all ranks stop before their next common step.

    Args:
        store: the one of the step_barrier, over any connection.
        reason: in words; the first one stays.
    """
    store.compare_set(_ASKED, "", reason)


def read_stop(store: Any) -> str | None:
    """Gives the reason of a stop that has been asked for."""
    return store.get(_ASKED).decode() if store.check([_ASKED]) else None
