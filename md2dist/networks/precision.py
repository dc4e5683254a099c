"""Precision: type of the networks' computations, and full precision for their output layers."""

import numpy as np
import torch
from numpy.typing import NDArray

from md2dist.errors import PredictionError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_dtype(name: str) -> torch.dtype:
    """Returns the type of a `precision.dtype`; for `auto`, the fastest one of this machine.

    Devices without bf16 instructions emulate them: a CPU is tens of times slower than in float32.

    Args:
        name: fp32, bf16, fp16, or auto: bf16 if the GPU or CPU has instructions for it, else
            fp32.
    """
    if name != "auto":
        return _DTYPES[name]
    if torch.cuda.is_available():
        is_native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_native = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if is_native else torch.float32


def name_dtype(dtype: torch.dtype) -> str:
    """Returns the `precision.dtype` of a type: fp32, bf16 or fp16."""
    return next(name for name, known in _DTYPES.items() if known == dtype)


def upcast_half(tensor: torch.Tensor) -> torch.Tensor:
    """Converts float16 and bfloat16 tensors of any shape to float32; others are unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def without_autocast(tensor: torch.Tensor) -> torch.autocast:
    """Returns a context in which operations on a tensor's device keep their arguments' type.

    Half-precision logits are rounded to 8 or 11 significant bits, which shifts the depth by up to
    1.5 %; so output layers run in this context, on inputs converted by `upcast_half`.

    Args:
        tensor: any shape; only its device counts.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def check_finite(predicted: NDArray[np.floating], dtype: torch.dtype) -> None:
    """Checks what a model predicts, of any shape.

    Args:
        predicted: the values.
        dtype: type of the networks' computations.

    Raises:
        PredictionError: if a value is not finite: the weights are damaged, or float16 overflows.
    """
    if not np.isfinite(predicted).all():
        name = name_dtype(dtype)
        raise PredictionError(
            f"the model predicts values that are not finite in {name}; "
            + ("use fp32" if name == "fp16" else "use other weights")
        )
