"""Averages gradients over the ranks while the backward pass still computes others."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn import Parameter

from md2dist.networks.buckets import BUCKET_BYTES, fill_buckets


class _Sum(NamedTuple):
    """A sum over the ranks on its way."""

    flat: torch.Tensor
    work: Any  # its `wait()` blocks the stream on a GPU, the host on a CPU


class GradientAverage:
    """Averages gradients bucket by bucket, each as soon as its last gradient is there.

    DeepSpeed at ZeRO stage 0 sends nothing until the backward pass has ended. All ranks send the
    same buckets in the same order, whichever gradient comes first, so sums are reproducible.

    Args:
        parameters: of the model, contiguous, in its order.
        is_last_micro_batch: returns whether the running backward pass is the last one of its step.
        dtype: type in which gradients are sent and summed; None: their own.
        bucket_bytes: size from which a bucket is full.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        is_last_micro_batch: Callable[[], bool],
        dtype: torch.dtype | None = None,
        bucket_bytes: int = BUCKET_BYTES,
    ):
        self._is_last_micro_batch = is_last_micro_batch
        self._dtype = dtype
        self._buckets = fill_buckets(parameters, bucket_bytes)
        for index, bucket in enumerate(self._buckets):
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(lambda _, i=index: self._note(i))
        self._begin()

    def finish(self) -> None:
        """Sets every gradient to its mean over the ranks; a missing one counts as zero."""
        while len(self._sums) < len(self._buckets):
            self._send_next()
        for _, work in self._sums:
            work.wait()
        pairs = zip(self._buckets, self._sums, strict=True)
        means = [flat.to(bucket[0].dtype) for bucket, (flat, _) in pairs]
        if means:
            torch._foreach_div_(means, dist.get_world_size())  # pyright: ignore
        for bucket, mean in zip(self._buckets, means, strict=True):
            views = _unflatten_dense_tensors(mean, bucket)
            for parameter, view in zip(bucket, views, strict=True):
                parameter.grad = view
        self._begin()

    def _begin(self) -> None:
        self._num_missing = [len(bucket) for bucket in self._buckets]
        self._sums: list[_Sum] = []

    def _note(self, index: int) -> None:
        """Counts a new gradient of a bucket, and sends complete buckets in their order."""
        if not self._is_last_micro_batch():
            return
        self._num_missing[index] -= 1
        while len(self._sums) < len(self._buckets) and not self._num_missing[len(self._sums)]:
            self._send_next()

    def _send_next(self) -> None:
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in self._buckets[len(self._sums)]
        ]
        flat = _flatten_dense_tensors(gradients).detach()
        flat = flat.to(self._dtype or flat.dtype)
        self._sums.append(_Sum(flat, dist.all_reduce(flat, async_op=True)))
