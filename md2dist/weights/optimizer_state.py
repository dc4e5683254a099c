"""State of the optimizer in checkpoints: read without executing code of a file, and checked.

DeepSpeed would unpickle its files, which may run any code, and torch's fused Adam reads and writes
as many numbers as a parameter has, whatever the size of its moments.
"""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

from md2dist.errors import CheckpointError
from md2dist.runs.checkpoint_folder import Checkpoint
from md2dist.runs.checkpoint_names import STATES_NAME
from md2dist.weights.files import describe_tensor, is_plain, read_weights

_MOMENTS = ("exp_avg", "exp_avg_sq")  # and `step`, a single number


class _Unread:
    """Stands for an object in DeepSpeed's files that a resume does not need."""

    def __new__(cls, *arguments: Any) -> "_Unread":
        return super().__new__(cls)

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


_STAND_INS = [
    (_Unread, name)
    for name in (
        "deepspeed.runtime.fp16.loss_scaler.LossScaler",
        "deepspeed.runtime.zero.config.ZeroStageEnum",
        "deepspeed.utils.tensor_fragment.fragment_address",
        "builtins.getattr",  # by which Python 3.11.0 to 3.11.3 pickles enumerations
    )
]


class Partition(NamedTuple):
    """Part of the optimizer's state that one rank keeps (ZeRO stages 1 and 2)."""

    optimizer: Any  # as `torch.optim.Adam.state_dict`
    weights: torch.Tensor  # (N,) float32, in the order of the parameters
    padding: int  # numbers that follow them


def partition_name(rank: int) -> str:
    """Returns the name of DeepSpeed's file with a rank's part of the optimizer's state."""
    return f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"


def read_partition(checkpoint: Path, rank: int, use_mmap: bool = False) -> Partition:
    """Reads the part of a rank; nothing in the file is executed.

    Raises:
        WeightsError: if the file is missing or damaged, or refers to code.
        CheckpointError: if it is not one of DeepSpeed's, or its weights are not finite.
    """
    path = checkpoint / partition_name(rank)
    content = read_weights(path, use_mmap, stand_ins=_STAND_INS).get("optimizer_state_dict")
    try:
        (weights,) = content["single_partition_of_fp32_groups"]  # pyright: ignore
        (padding,) = content["group_paddings"]  # pyright: ignore
        optimizer = content["base_optimizer_state"]  # pyright: ignore
        is_valid = type(padding) is int and padding >= 0 and is_plain(weights, torch.float32)
    except (TypeError, KeyError, ValueError):
        is_valid = False
    if not is_valid or weights.dim() != 1 or not weights.isfinite().all():
        raise CheckpointError(
            f"{path} is damaged: it holds no finite float32 weights of one group of parameters"
        )
    return Partition(optimizer, weights, padding)


def check_optimizer(
    checkpoint: Checkpoint, states: dict[str, Any], module: dict[str, torch.Tensor]
) -> None:
    """Checks the optimizer's state in a checkpoint, on all ranks that saved it.

    Args:
        checkpoint: the checkpoint.
        states: content of its states file.
        module: the weights and buffers in it, of any shape.

    Raises:
        WeightsError: if the file of a rank is missing or damaged, or refers to code.
        CheckpointError: if a state is missing, has another size than its parameter, or NaN.
    """
    path = checkpoint.folder / STATES_NAME
    buffers = states.get("buffer_names")
    if not isinstance(buffers, list):
        raise CheckpointError(f"{path} is damaged: it has no list `buffer_names`")
    shapes = [module[name].shape for name in module if name not in buffers]
    if checkpoint.state.zero_stage == 0:
        check_moments(states.get("optimizer"), shapes, path)
        return
    num_weights, sizes = 0, set()
    for rank in range(checkpoint.state.world_size):
        part = read_partition(checkpoint.folder, rank, use_mmap=True)
        size = part.weights.numel() + part.padding
        check_moments(
            part.optimizer, [torch.Size([size])], checkpoint.folder / partition_name(rank)
        )
        num_weights += part.weights.numel()
        sizes.add(size)
    if num_weights != sum(map(prod, shapes)) or len(sizes) != 1:
        raise CheckpointError(
            f"{checkpoint.folder} is damaged: the optimizer states of its ranks are not equal "
            f"parts of {sum(map(prod, shapes))} weights"
        )


def check_moments(
    optimizer: Any, shapes: Sequence[torch.Size], path: Path
) -> dict[int, dict[str, torch.Tensor]]:
    """Checks the state of Adam.

    Args:
        optimizer: as `torch.optim.Adam.state_dict`; only its `state` is used.
        shapes: of the optimizer's parameters, in their order.
        path: its file, for messages.

    Returns:
        By number of the parameter: `step` (), and `exp_avg` and `exp_avg_sq` of its shape.
        Parameters that have not been updated may be missing.

    Raises:
        CheckpointError: naming the first tensor that is missing, has another shape, type or layout,
            or NaN.
    """
    state = optimizer.get("state") if isinstance(optimizer, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is damaged: it has no state of the optimizer")
    for number, tensors in state.items():
        if type(number) is not int or not 0 <= number < len(shapes):
            raise CheckpointError(
                f"{path} is damaged: it has optimizer states of parameter {str(number)[:40]}, "
                f"expected 0 to {len(shapes) - 1}"
            )
        names = set(tensors) if isinstance(tensors, dict) else set()
        if names != {"step", *_MOMENTS}:
            raise CheckpointError(
                f"{path} is damaged: the optimizer state of parameter {number} is not step, "
                f"{', '.join(_MOMENTS)}"
            )
        for name, tensor in tensors.items():
            shape = shapes[number] if name in _MOMENTS else torch.Size()
            if not is_plain(tensor, torch.float32) or tensor.shape != shape:
                raise CheckpointError(
                    f"{path} is damaged: {name} of parameter {number} is "
                    f"{describe_tensor(tensor)}, expected dense float32 {tuple(shape)}"
                )
            if tensor.isnan().any():
                raise CheckpointError(f"{path} is damaged: the state of the optimizer has NaN")
    return state
