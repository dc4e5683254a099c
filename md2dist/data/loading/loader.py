"""Loader: the micro-batches of one rank in the global order, read by worker processes."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, tee
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, get_worker_info
from webdataset.pipeline import DataPipeline

from md2dist.data.loading.collate import RawSample, collate_samples
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.shards.compatibility import check_recipe
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.topology import Topology
from md2dist.distributed.world import cores_per_rank
from md2dist.errors import ConfigError, Md2distError
from md2dist.parent_process import end_with_parent, holding_termination
from md2dist.records import FrameBatch

_NUM_WORKERS = 4  # enough to feed a GPU
Stage = Callable[[Iterator[RawSample]], Iterable[RawSample]]


class Workers(NamedTuple):
    """Processes that read ahead of the training process."""

    num_workers: int = 0  # 0 reads in the calling process
    prefetch_batches: int = 2  # micro-batches that each worker keeps ready
    pin_memory: bool = False  # page-locked batches, for copies that overlap with computation


def make_loader(
    dataset: ShardDataset,
    order: GlobalOrder,
    topology: Topology,
    *,
    views: Sequence[str],
    steps: range,
    workers: Workers = Workers(),
    use_true_intrinsics: bool = False,
    stages: Sequence[Stage] = (),
) -> "FrameLoader":
    """Makes the stream of one rank's micro-batches.

    It is a `webdataset.DataPipeline`: raw samples in the global order, the stages of the caller,
    then decoding and batching. Micro-batch n is read by worker n modulo `num_workers`, and the
    `DataLoader` collects from its workers in turn, so any number of workers gives the same stream.

    Args:
        dataset: the samples.
        order: which samples make up which step.
        topology: this rank, the number of ranks and of accumulation steps.
        views: names of the target and the sources, "0" first, then temporal offsets ascending,
            "s" last; see `view_names`.
        steps: consecutive steps, counted over all epochs.
        workers: the processes that read.
        use_true_intrinsics: calibrated K instead of 0.58 W, 1.92 H.
        stages: WebDataset stages that change raw samples: dictionaries of the encoded members
            ("0.png", "json", ...), "__key__" and "__id__". A stage may replace an image by its
            decoded (H, W, 3) uint8 pixels; it must neither drop, add nor reorder samples.

    Returns:
        An iterable of len(steps) * grad_accum_steps batches; each iteration starts again.

    Raises:
        ConfigError: if the global batch cannot be divided evenly among ranks and accumulation
            steps.
        ShardError: if the shards lack a view of `views`; while iterating, if a shard is missing or
            damaged.
    """
    check_recipe(
        dataset.manifest,
        dataset.folder,
        frame_offsets=[int(view) for view in views if view not in ("0", "s")],
        use_stereo="s" in views,
    )
    rank, world_size, num_accum = topology.rank, topology.world_size, topology.grad_accum_steps
    micro_batch_size = len(order.rank_ids(0, 0, rank, world_size, 0, num_accum))
    num_batches = len(steps) * num_accum

    def ids_of(batch: int) -> np.ndarray:
        """Returns the sample numbers of a micro-batch, (micro_batch_size,)."""
        index, accum_index = divmod(batch, num_accum)
        return order.rank_ids(
            *order.position(steps[index]), rank, world_size, accum_index, num_accum
        )

    # A torch IterableDataset, though its type does not say so.
    pipeline: Any = DataPipeline(
        partial(_read, dataset, ids_of, num_batches, topology.node_size),
        *stages,
        _check_order,
        partial(_batch, dataset, views, micro_batch_size, use_true_intrinsics),
        _carry_errors,
    )
    num_workers = workers.num_workers
    return FrameLoader(
        DataLoader(
            pipeline,
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=workers.prefetch_batches if num_workers else None,
            pin_memory=workers.pin_memory,
            worker_init_fn=_ignore_signals_of_others,
            multiprocessing_context="fork" if num_workers else None,
        ),
        num_batches,
    )


def choose_num_workers(requested: int | None, node_size: int) -> int:
    """Returns the number of workers of each rank.

    Args:
        requested: `data.num_workers`; None for 4, or one per core if a rank has fewer.
        node_size: number of ranks that share the cores of this node.
    """
    return min(_NUM_WORKERS, cores_per_rank(node_size)) if requested is None else requested


class FrameLoader:
    """An iterable of `FrameBatch` of known length, made by `make_loader`."""

    def __init__(self, batches: DataLoader, num_batches: int):
        self._batches = batches
        self._num_batches = num_batches

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[FrameBatch]:
        num_left = self._num_batches
        with holding_termination():
            batches = iter(self._batches)  # starts the workers
        for batch in batches:
            if isinstance(batch, Md2distError):
                raise batch
            yield batch
            num_left -= 1
        if num_left:
            raise _stage_error()


def _read(
    dataset: ShardDataset,
    ids_of: Callable[[int], np.ndarray],
    num_batches: int,
    node_size: int,
) -> Iterator[RawSample]:
    """Yields raw samples of this worker's micro-batches; `ids_of` returns (micro_batch_size,)."""
    info = get_worker_info()
    first, stride = (info.id, info.num_workers) if info else (0, 1)
    ids = chain.from_iterable(ids_of(n).tolist() for n in range(first, num_batches, stride))
    ids, same_ids = tee(ids)
    samples = dataset.stream(ids, num_sharers=stride * node_size)
    for position, (sample_id, sample) in enumerate(zip(same_ids, samples, strict=True)):
        yield {**sample, "__id__": sample_id, "__position__": position}


def _check_order(samples: Iterable[RawSample]) -> Iterator[RawSample]:
    for position, sample in enumerate(samples):
        if sample.get("__position__") != position:
            raise _stage_error()
        yield sample


def _stage_error() -> ConfigError:
    return ConfigError(
        "a stage passed to the loader drops, adds or reorders samples; the order is fixed, "
        "so a stage may only change single samples (webdataset.map)"
    )


def _batch(
    dataset: ShardDataset,
    views: Sequence[str],
    micro_batch_size: int,
    use_true_intrinsics: bool,
    samples: Iterator[RawSample],
) -> Iterator[FrameBatch]:
    while len(group := list(islice(samples, micro_batch_size))) == micro_batch_size:
        yield collate_samples(dataset, group, views, use_true_intrinsics=use_true_intrinsics)


def _carry_errors(batches: Iterable[FrameBatch]) -> Iterator[FrameBatch | Md2distError]:
    """Yields an error as the last item: if raised, the worker would wrap it in a traceback."""
    try:
        yield from batches
    except Md2distError as error:
        yield error


def _ignore_signals_of_others(worker: int) -> None:
    """Makes a worker ignore SIGINT, and SIGTERM unless the training process sent it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
