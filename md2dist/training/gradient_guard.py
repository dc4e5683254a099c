"""Gradient guard: loss scaling and skipped steps, decided on the device."""

from typing import Any

import torch
import torch.distributed as dist
from torch.nn.utils import get_total_norm

from md2dist.runs.resume_state import GuardState

_GROWTH_INTERVAL = 2000  # clean steps after which the loss scale doubles, as in torch.amp


class GradientGuard:
    """Makes an optimizer skip steps with non-finite gradients, and scales fp16 losses.

    A hook at the start of `optimizer.step()` checks the gradients, which are summed over the ranks
    by then. Torch's fused Adam divides them by its `grad_scale` and does nothing where its
    `found_inf` is one, both tensors on the device: the host never waits, and all ranks, which have
    the same sums, skip together.

    Args:
        optimizer: a fused torch optimizer.
        device: device of the gradients.
        initial_scale: first loss scale; None (fp32 and bf16) never scales.
        is_partitioned: whether each rank's optimizer holds its own part of the gradients (ZeRO 1
            and 2).
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        initial_scale: float | None = None,
        is_partitioned: bool = False,
    ):
        self._is_scaling = initial_scale is not None
        self._is_partitioned = is_partitioned
        self.scale = torch.tensor(initial_scale or 1.0, device=device)
        self.num_clean_steps = torch.zeros((), device=device)
        self.num_skipped = torch.zeros((), device=device)
        self.norm = torch.zeros((), device=device)  # of the last step's unscaled gradients
        optimizer.register_step_pre_hook(self._inspect)

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Multiplies the loss () by the current scale; a non-finite loss yields NaN gradients."""
        factor = torch.where(is_finite(loss.detach()), self.scale, torch.nan)
        return loss * factor

    def state(self) -> GuardState:
        """Returns the values that a checkpoint keeps; waits for the device."""
        return GuardState(
            num_clean_steps=float(self.num_clean_steps),
            num_skipped=float(self.num_skipped),
            scale=float(self.scale) if self._is_scaling else None,
        )

    def restore(self, state: GuardState) -> None:
        """Restores what `state` returned; without a scale, as in bf16 runs, keeps the first one."""
        if self._is_scaling and state.scale is not None:
            self.scale.fill_(state.scale)
        self.num_clean_steps.fill_(state.num_clean_steps)
        self.num_skipped.fill_(state.num_skipped)

    @torch.no_grad()
    def _inspect(self, optimizer: Any, *_: Any) -> None:
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        norm = get_total_norm(gradients)
        if self._is_partitioned:
            squared = norm.square()
            dist.all_reduce(squared)
            norm = squared.sqrt()
        found_inf = is_finite(norm).logical_not().float()
        optimizer.grad_scale, optimizer.found_inf = self.scale, found_inf
        self.norm = norm / self.scale
        self.num_skipped = self.num_skipped + found_inf
        self.num_clean_steps = (self.num_clean_steps + 1) * (1 - found_inf)
        if self._is_scaling:
            is_growing = (self.num_clean_steps >= _GROWTH_INTERVAL).float()
            # A new tensor, since the optimizer still divides by the old one.
            self.scale = self.scale * (1 + is_growing) * (1 - 0.5 * found_inf)
            self.num_clean_steps = self.num_clean_steps * (1 - is_growing)


def is_finite(values: torch.Tensor) -> torch.Tensor:
    """Returns where values of any shape are finite, in two kernels; torch.isfinite takes four."""
    return values - values == 0
