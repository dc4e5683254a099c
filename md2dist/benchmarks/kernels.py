"""Counts of kernels and host waits, from the operations that PyTorch dispatches."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Without a kernel: memory, metadata, and marks of the profiler and of sequences.
_WITHOUT_KERNEL = {
    "detach", "alias", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided",
    "resize_", "set_", "_unsafe_view", "_reshape_alias", "lift_fresh", "is_pinned", "_pin_memory",
    "_record_function_enter_new", "_record_function_exit", "_is_mkldnn_fp16_supported",
}  # fmt: skip
# The host reads their result, or the size of it.
_WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim",
    "_unique2",
}  # fmt: skip
# Tensors per kernel of a multi-tensor operation on 1, 2, ... lists (MultiTensorApply.cuh).
_TENSORS_PER_KERNEL = (110, 64, 48, 36, 30)


class KernelCounter(TorchDispatchMode):
    """Counts what the operations within its context would launch on a GPU.

    An operation that is neither a view nor free of computation counts as one kernel; one on lists
    of tensors as the kernels that their number takes. Operations inside compiled code are not seen.

    Attributes:
        kernels: number of kernels, by the name of the operation.
        host_waits: number of operations for which the host would wait for the device: results that
            the host reads, tensors made from Python's numbers, copies between host and device that
            block or whose host memory is not pinned.
    """

    def __init__(self):
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.host_waits: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs an operation, and counts it; its arguments are of any shape."""
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not (func.is_view or name in _WITHOUT_KERNEL):
            self.kernels[name] += _launches(args)
        if name in _WAITS or _is_mask_index(name, args) or _blocks(name, args, kwargs, result):
            self.host_waits[name] += 1
        return result


def _launches(args: tuple[Any, ...]) -> int:
    """Returns the number of kernels of an operation, from the lists among its arguments."""
    lists = [x for x in args if isinstance(x, list) and len(x) > 1 and _is_tensor(x[0])]
    if len(lists) == 0 or len(lists[0]) != len(lists[-1]):
        return 1
    per_kernel = _TENSORS_PER_KERNEL[min(len(lists), len(_TENSORS_PER_KERNEL)) - 1]
    return -(-len(lists[0]) // per_kernel)


def _is_mask_index(name: str, args: tuple[Any, ...]) -> bool:
    """Whether an operation indexes with a boolean mask, whose count gives the result's size."""
    if name not in ("index", "index_put", "index_put_"):
        return False
    return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])


def _blocks(name: str, args: tuple[Any, ...], kwargs: Any, result: Any) -> bool:
    """Whether an operation copies between host and device in a way for which the host waits."""
    if name == "lift_fresh":  # torch.tensor(numbers)
        return result.device.type != "cpu"
    if name not in ("_to_copy", "copy_"):
        return False
    source = args[1] if name == "copy_" else args[0]
    if source.device.type == result.device.type:
        return False
    is_async = kwargs.get("non_blocking", False) if kwargs else False
    is_async = is_async or (name == "copy_" and len(args) > 2 and args[2])
    return not is_async or (source.device.type == "cpu" and not source.is_pinned())


def _is_tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)
