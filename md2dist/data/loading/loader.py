"""The stream of micro-batches of one rank, in the global order, read by worker processes."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, tee
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, get_worker_info
from webdataset.pipeline import DataPipeline

from md2dist.data.loading.collate import RawSample, collate_samples
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.shards.compatibility import check_recipe
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.recipe import view_names
from md2dist.errors import ConfigError, Md2distError
from md2dist.parent_process import end_with_parent
from md2dist.records import FrameBatch

Stage = Callable[[Iterator[RawSample]], Iterable[RawSample]]


def make_loader(
    dataset: ShardDataset,
    order: GlobalOrder,
    *,
    frame_offsets: Sequence[int],
    use_stereo: bool,
    micro_batch_size: int,
    num_accum: int,
    rank: int,
    world_size: int,
    start_step: int,
    end_step: int,
    num_workers: int,
    prefetch_batches: int,
    ranks_per_node: int = 1,
    use_true_intrinsics: bool = False,
    pin_memory: bool = False,
    stages: Sequence[Stage] = (),
) -> "FrameLoader":
    """Makes the stream of one rank's micro-batches.

    It is a `webdataset.DataPipeline`: raw samples in the global order, the stages of the caller,
    then decoding and batching. Micro-batch n is read by worker n modulo `num_workers`, and the
    `DataLoader` asks its workers in turn, so any number of workers gives the same stream.

    Args:
        dataset: where the samples are.
        order: which samples make up which step.
        frame_offsets: temporal sources, ascending, without 0.
        use_stereo: whether the other camera's view is the last source.
        micro_batch_size: samples of one micro-batch.
        num_accum: micro-batches of this rank in one step.
        rank: 0 to ``world_size - 1``.
        world_size: number of ranks.
        start_step: first step, counted over all epochs.
        end_step: the step after the last one.
        num_workers: processes that read; 0 reads in this one.
        prefetch_batches: micro-batches that each worker keeps ready.
        ranks_per_node: that read into one cache, where the dataset needs one.
        use_true_intrinsics: calibrated K instead of 0.58 W, 1.92 H.
        pin_memory: whether batches come in page-locked memory, for copies beside the computation.
        stages: WebDataset stages that change raw samples: dictionaries of the encoded members
            ("0.png", "json", ...), "__key__" and "__id__". A stage may replace an image by its
            decoded (H, W, 3) uint8 pixels; it must neither drop, add nor reorder samples.

    Returns:
        An iterable of (end_step - start_step) * num_accum batches; each iteration starts again.

    Raises:
        ConfigError: if the sizes do not multiply to the order's global batch size.
        ShardError: if the shards lack a view that is asked for; while iterating, if a shard is
            missing or damaged.
    """
    if micro_batch_size * num_accum * world_size != order.global_batch_size:
        raise ConfigError(
            f"{micro_batch_size} samples x {num_accum} accumulation steps x {world_size} ranks "
            f"are not the global batch of {order.global_batch_size}"
        )
    check_recipe(
        dataset.manifest, dataset.folder, frame_offsets=frame_offsets, use_stereo=use_stereo
    )
    num_batches = (end_step - start_step) * num_accum

    def ids_of(batch: int) -> np.ndarray:
        step, accum_index = divmod(batch, num_accum)
        epoch, step = order.position(start_step + step)
        return order.rank_ids(epoch, step, rank, world_size, accum_index, num_accum)

    # A torch IterableDataset, which its type does not tell.
    pipeline: Any = DataPipeline(
        partial(_read, dataset, ids_of, num_batches, ranks_per_node),
        *stages,
        _check_order,
        partial(
            _batch,
            dataset,
            view_names(frame_offsets, use_stereo),
            micro_batch_size,
            use_true_intrinsics,
        ),
        _carry_errors,
    )
    return FrameLoader(
        DataLoader(
            pipeline,
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=prefetch_batches if num_workers else None,
            pin_memory=pin_memory,
            worker_init_fn=_obey_only_the_parent,
            multiprocessing_context="fork" if num_workers else None,
        ),
        num_batches,
    )


class FrameLoader:
    """An iterable of `FrameBatch` of known length, made by `make_loader`."""

    def __init__(self, batches: DataLoader, num_batches: int):
        self._batches = batches
        self._num_batches = num_batches

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[FrameBatch]:
        num_left = self._num_batches
        for batch in self._batches:
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
    ranks_per_node: int,
) -> Iterator[RawSample]:
    """Yields the raw samples of this worker's share of the micro-batches."""
    info = get_worker_info()
    first, stride = (info.id, info.num_workers) if info else (0, 1)
    ids = chain.from_iterable(ids_of(n).tolist() for n in range(first, num_batches, stride))
    ids, same_ids = tee(ids)
    samples = dataset.stream(ids, num_sharers=stride * ranks_per_node)
    for place, (sample_id, sample) in enumerate(zip(same_ids, samples, strict=True)):
        yield {**sample, "__id__": sample_id, "__place__": place}


def _check_order(samples: Iterable[RawSample]) -> Iterator[RawSample]:
    for place, sample in enumerate(samples):
        if sample.get("__place__") != place:
            raise _stage_error()
        yield sample


def _stage_error() -> ConfigError:
    return ConfigError(
        "a stage given to the loader drops, adds or reorders samples; the order is fixed, "
        "so a stage may only change samples, each by itself (webdataset.map)"
    )


def _batch(
    dataset: ShardDataset,
    views: list[str],
    micro_batch_size: int,
    use_true_intrinsics: bool,
    samples: Iterator[RawSample],
) -> Iterator[FrameBatch]:
    while len(group := list(islice(samples, micro_batch_size))) == micro_batch_size:
        yield collate_samples(dataset, group, views, use_true_intrinsics=use_true_intrinsics)


def _carry_errors(batches: Iterable[FrameBatch]) -> Iterator[FrameBatch | Md2distError]:
    """Sends an error of use as the last item: raised, a worker would wrap it in its traceback."""
    try:
        yield from batches
    except Md2distError as error:
        yield error


def _obey_only_the_parent(worker: int) -> None:
    """Makes a worker ignore signals that its parent, the training process, did not send."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
