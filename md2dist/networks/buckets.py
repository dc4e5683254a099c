"""Buckets of tensors that are converted or sent together."""

from collections.abc import Iterable
from typing import TypeVar

import torch

BUCKET_BYTES = 25 * 2**20

AnyTensor = TypeVar("AnyTensor", bound=torch.Tensor)


def fill_buckets(
    tensors: Iterable[AnyTensor], bucket_bytes: int = BUCKET_BYTES
) -> list[list[AnyTensor]]:
    """Returns tensors of any shape, in their order, in buckets of at least a size but the last."""
    buckets: list[list[AnyTensor]] = []
    size = bucket_bytes
    for tensor in tensors:
        if size >= bucket_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(tensor)
        size += tensor.nbytes
    return buckets
