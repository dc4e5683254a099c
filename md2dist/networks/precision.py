"""Full precision for the last layer of a network, whatever autocast its other layers run under."""

import torch


def raise_half(tensor: torch.Tensor) -> torch.Tensor:
    """Raises float16 and bfloat16 to float32; float32 and float64 stay as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def without_autocast(tensor: torch.Tensor) -> torch.autocast:
    """Returns the context in which operations on the tensor's device keep their arguments' type.

    The logits of a half-precision convolution are rounded to its 8 or 11 significant bits, which
    shifts the depth by up to 1.5 %: output layers run in here, on inputs raised by `raise_half`.
    """
    return torch.autocast(tensor.device.type, enabled=False)
