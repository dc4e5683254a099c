"""The global order of samples: a pure function of seed, epoch and position.

It does not depend on the number of ranks, workers or accumulation steps, so a run can stop at any
step and resume with another topology. Samples are shuffled within windows of whole shards: a node
needs only a few shards at a time, and a query only one window's sample numbers in memory.
"""

from collections.abc import Callable, Sequence

import numpy as np

from md2dist.errors import ConfigError

_CACHED_ARRAYS = 4  # a step touches two windows at most, unless it is larger than one


class GlobalOrder:
    """Sample numbers of every step of every epoch.

    Each epoch permutes the shards, cuts them into windows of whole shards and permutes the samples
    within each window. Step t takes the positions [t G, (t + 1) G) of that list, G being the global
    batch size. Samples that do not fill a last step are left out, different ones in each epoch.

    Args:
        shard_sizes: samples of each shard; sample numbers count through them in this order.
        seed: of all permutations, not negative.
        global_batch_size: samples per step over all ranks and accumulation steps.
        window_shards: shards that are shuffled together.

    Attributes:
        num_samples: samples of all shards.
        num_steps: whole steps of one epoch.
        num_dropped: samples that each epoch leaves out.

    Raises:
        ConfigError: if a batch is larger than the data set, or a number is not positive.
    """

    def __init__(
        self,
        shard_sizes: Sequence[int],
        *,
        seed: int,
        global_batch_size: int,
        window_shards: int,
    ):
        self._sizes = np.asarray(shard_sizes, dtype=np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._seed = seed
        self._window_shards = window_shards
        self._cache: dict[tuple[int, ...], np.ndarray] = {}  # least recently used first
        self.global_batch_size = global_batch_size
        self.num_samples = int(self._sizes.sum())
        if global_batch_size < 1 or window_shards < 1:
            raise ConfigError(
                "the global batch size and data.window_shards must be positive, "
                f"got {global_batch_size} and {window_shards}"
            )
        if global_batch_size > self.num_samples:
            raise ConfigError(
                f"a global batch of {global_batch_size} samples is larger than the data set of "
                f"{self.num_samples}; lower optim.global_batch_size or optim.micro_batch_size"
            )
        self.num_steps, self.num_dropped = divmod(self.num_samples, global_batch_size)

    def __repr__(self) -> str:
        return (
            f"GlobalOrder({self.num_samples} samples in {len(self._sizes)} shards; an epoch has "
            f"{self.num_steps} steps of {self.global_batch_size} and leaves out {self.num_dropped})"
        )

    def position(self, global_step: int) -> tuple[int, int]:
        """Returns the epoch and the step within it of a step counted over all epochs."""
        return divmod(global_step, self.num_steps)

    def step_ids(self, epoch: int, step: int) -> np.ndarray:
        """Returns the sample numbers of one step.

        Args:
            epoch: counted from 0.
            step: within the epoch, 0 to ``num_steps - 1``.

        Returns:
            (global_batch_size,) int64.

        Raises:
            IndexError: if the epoch has no such step.
        """
        if epoch < 0 or not 0 <= step < self.num_steps:
            raise IndexError(f"no step {step} in epoch {epoch} of {self!r}")
        start = step * self.global_batch_size
        stop = start + self.global_batch_size
        window_ends = self._cached(self._window_ends, epoch)
        first, last = np.searchsorted(window_ends, (start, stop - 1), side="right")
        parts = []
        for window in range(first, last + 1):
            ids = self._cached(self._window_ids, epoch, window)
            offset = window_ends[window] - len(ids)
            parts.append(ids[max(start - offset, 0) : stop - offset])
        return np.concatenate(parts)

    def epoch_ids(self, epoch: int) -> np.ndarray:
        """Returns all sample numbers in the order of an epoch, (num_samples,) int64."""
        num_windows = len(self._cached(self._window_ends, epoch))
        return np.concatenate([self._window_ids(epoch, window) for window in range(num_windows)])

    def rank_ids(
        self, epoch: int, step: int, rank: int, world_size: int, accum_index: int, num_accum: int
    ) -> np.ndarray:
        """Returns the sample numbers of one rank's micro-batch.

        Args:
            epoch: counted from 0.
            step: within the epoch.
            rank: 0 to ``world_size - 1``.
            world_size: number of ranks.
            accum_index: 0 to ``num_accum - 1``.
            num_accum: micro-batches that a rank accumulates into one step.

        Returns:
            (global_batch_size / (world_size * num_accum),) int64: the c-th contiguous part of
            `step_ids`, with c = accum_index * world_size + rank.

        Raises:
            ConfigError: if the step cannot be cut into that many equal parts.
            IndexError: if the epoch has no such step, or the step no such part.
        """
        num_parts = world_size * num_accum
        size, rest = divmod(self.global_batch_size, num_parts)
        if rest:
            fitting = [f"{n * num_parts}" for n in (size, size + 1) if n]
            raise ConfigError(
                f"a global batch of {self.global_batch_size} does not divide among {world_size} "
                f"ranks x {num_accum} accumulation steps; {' or '.join(fitting)} would"
            )
        if not (0 <= rank < world_size and 0 <= accum_index < num_accum):
            raise IndexError(
                f"no micro-batch of rank {rank}, accumulation step {accum_index} "
                f"among {world_size} x {num_accum}"
            )
        part = accum_index * world_size + rank
        return self.step_ids(epoch, step)[part * size : (part + 1) * size]

    def _shard_order(self, epoch: int) -> np.ndarray:
        """Returns the order of the shards in an epoch, (num_shards,)."""
        return _permute(len(self._sizes), self._seed, epoch)

    def _window_ends(self, epoch: int) -> np.ndarray:
        """Returns the positions at which the windows of an epoch end, (num_windows,)."""
        sizes = self._sizes[self._shard_order(epoch)]
        return np.cumsum(np.add.reduceat(sizes, np.arange(0, len(sizes), self._window_shards)))

    def _window_ids(self, epoch: int, window: int) -> np.ndarray:
        """Returns the sample numbers of a window in order, (num_samples,)."""
        first = window * self._window_shards
        shards = self._shard_order(epoch)[first : first + self._window_shards]
        ids = np.concatenate([self._starts[s] + np.arange(int(self._sizes[s])) for s in shards])
        return ids[_permute(len(ids), self._seed, epoch, window)]

    def _cached(self, compute: Callable[..., np.ndarray], *key: int) -> np.ndarray:
        """Caches the last arrays (N,); the length of the key distinguishes the two kinds."""
        found = self._cache.pop(key, None)
        if len(self._cache) >= _CACHED_ARRAYS:
            self._cache.pop(next(iter(self._cache)))
        self._cache[key] = compute(*key) if found is None else found
        return self._cache[key]


def _permute(size: int, seed: int, *key: int) -> np.ndarray:
    """Returns a permutation (size,) from raw random words, a stream that numpy never changes."""
    words = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)).random_raw(size)
    return np.argsort(words, kind="stable")
