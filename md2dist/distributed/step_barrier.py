"""Barrier before each step: all ranks take it, once each has its data, or none does.

So a step that has begun can be finished, and all ranks stop after the same step, even while one of
them waits for data. They agree from host to host: no synchronisation with the device, which
meanwhile works on the step before.
"""

from collections.abc import Callable

from md2dist.distributed.host_group import HostGroup


class StepBarrier:
    """Step barrier of one rank.

    Args:
        group: of all ranks, for this object alone.
        is_stopping: whether a stop was requested, as far as this rank knows.
    """

    def __init__(self, group: HostGroup, is_stopping: Callable[[], bool]):
        self._group, self._is_stopping = group, is_stopping

    def wait(self, step: int, has_data: bool) -> bool:
        """Agrees with the other ranks on taking a step; all call it, once per step, in order.

        Args:
            step: counted from the start of the run.
            has_data: whether this rank has the data of the step; without it, a rank calls this
                only after a stop has been requested.

        Returns:
            Whether to take the step, the same on all ranks. After False, no step follows.

        Raises:
            RuntimeError: of gloo, if another rank has ended.
        """
        is_willing = has_data and not self._is_stopping()
        all_are_willing, first, last = self._group.minimum([is_willing, step, -step])
        assert first == -last == step, "the ranks are at different steps"
        return bool(all_are_willing)
