"""The type in which networks compute, and full precision for their last layers."""

import torch

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_dtype(name: str) -> torch.dtype:
    """Gives the type of a `precision.dtype`; for `auto`, the one that suits this machine.

    Others than that of bf16 instructions compute with it, too, but emulated: on a CPU several tens
    of times as slowly as in float32.

    Args:
        name: fp32, bf16, fp16, or auto: bf16 where its GPU or CPU has instructions for it, else
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
    """Gives the `precision.dtype` that asks for a type: fp32, bf16 or fp16."""
    return next(name for name, known in _DTYPES.items() if known == dtype)


def upcast_half(tensor: torch.Tensor) -> torch.Tensor:
    """Raises float16 and bfloat16 to float32; float32 and float64 stay as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def without_autocast(tensor: torch.Tensor) -> torch.autocast:
    """Returns the context in which operations on the tensor's device keep their arguments' type.

    The logits of a half-precision convolution are rounded to its 8 or 11 significant bits, which
    shifts the depth by up to 1.5 %: output layers run in here, on inputs raised by `upcast_half`.
    """
    return torch.autocast(tensor.device.type, enabled=False)
