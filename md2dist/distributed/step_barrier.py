"""Barrier before each step: all ranks take it, once each has its data, or none does.

So a step that has begun can be finished, and all ranks stop after the same step, even while one of
them waits for data. They agree through the key-value store of the job, from host to host: no
synchronisation with the device, which meanwhile works on the step before.
"""

from md2dist.distributed.channel import Channel


class StepBarrier:
    """Step barrier of one rank.

    Args:
        channel: used by the thread of this object alone.
        world_size: number of ranks.
    """

    def __init__(self, channel: Channel, world_size: int):
        self._channel, self._world_size = channel, world_size

    def wait(self, step: int, has_data: bool) -> bool:
        """Agrees with the other ranks on taking a step; all call it, once per step, in order.

        Args:
            step: counted from the start of the run.
            has_data: whether this rank has the data of the step; without it, a rank calls this
                only after a stop has been requested.

        Returns:
            Whether to take the step, the same on all ranks. After False, no step follows.
        """
        if not has_data:
            self._channel.set_decision(step, is_taken=False)
        elif self._channel.add_ready(step) == self._world_size:
            self._channel.set_decision(step, is_taken=self._channel.stop_reason() is None)
            self._channel.forget_step(step - 1)  # all have read its decision
        return self._channel.wait_for_decision(step)
