"""Skipped steps: logs steps with non-finite gradients and ends a run with too many in a row."""

import logging
from collections.abc import Callable, Iterable
from itertools import islice

from md2dist.errors import TrainingError
from md2dist.training.host_copy import HostCopy

logger = logging.getLogger(__name__)

BAD_GRADIENT, BAD_LOSS = 1, 2
_NUM_NAMED = 12  # ranks, and samples of each


class SkippedSteps:
    """Checks the flags of each step while the next step runs; the same on all ranks.

    Args:
        max_in_a_row: number of skipped steps in a row at which the run ends.
        keys_of: maps a step and a rank to the keys of its samples.
        is_main: whether this rank logs for all.
    """

    def __init__(
        self, max_in_a_row: int, keys_of: Callable[[int, int], Iterable[str]], is_main: bool
    ):
        self._max_in_a_row, self._keys_of, self._is_main = max_in_a_row, keys_of, is_main
        self._pending: tuple[int, HostCopy] | None = None
        self._num_in_a_row = 0

    def after_step(self, step: int, flags: HostCopy) -> None:
        """Keeps the flags of a step, and checks those of the step before.

        Args:
            step: counted from the run's start.
            flags: (world_size + 1,): for each rank `BAD_LOSS` or `BAD_GRADIENT` if its own was not
                finite, else 0; last, whether the step was skipped.

        Raises:
            TrainingError: if too many steps in a row were skipped.
        """
        self.flush()
        self._pending = (step, flags)

    def flush(self) -> None:
        """Checks the last step.

        Raises:
            TrainingError: if too many steps in a row were skipped.
        """
        if self._pending is None:
            return
        step, flags = self._pending
        self._pending = None
        *bad_ranks, is_skipped = flags.read()
        self._num_in_a_row = self._num_in_a_row + 1 if is_skipped else 0
        is_over = self._num_in_a_row >= self._max_in_a_row
        if not is_skipped or not (self._is_main or is_over):
            return
        worst = max(bad_ranks)  # a bad loss explains the bad gradients of other ranks
        causes = self._name(step, [rank for rank, bad in enumerate(bad_ranks) if bad == worst > 0])
        if self._is_main:
            logger.warning(
                "step %d was skipped: loss or gradient is not finite; %s", step + 1, causes
            )
        if is_over:
            raise TrainingError(
                f"{self._num_in_a_row} steps in a row had a non-finite loss or gradient, the last "
                f"is step {step + 1} ({causes}); the weights are those before the first of them. "
                "Check these samples, lower optim.lr, or set precision.dtype=fp32"
            )

    def _name(self, step: int, ranks: list[int]) -> str:
        if not ranks:
            return "the sum over the ranks is not finite, though each rank's gradient is"
        names = [f"rank {rank}: {self._describe(step, rank)}" for rank in ranks[:_NUM_NAMED]]
        return "; ".join(names) + ("; ..." if len(ranks) > _NUM_NAMED else "")

    def _describe(self, step: int, rank: int) -> str:
        keys = list(islice(self._keys_of(step, rank), _NUM_NAMED + 1))
        return ", ".join(keys[:_NUM_NAMED]) + (", ..." if len(keys) > _NUM_NAMED else "")
