"""Running statistics of batch norm, kept the same on all ranks."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class RunningStatistics:
    """The running means and variances of a model, averaged over the ranks after each step.

    Each rank normalises with the statistics of its own micro-batch; without the average their
    running statistics would drift apart, and a checkpoint would hold those of rank 0 only.

    Args:
        model: on its device for good: its running statistics become views of one flat tensor, so
            that the average is one all-reduce and no copy.
    """

    def __init__(self, model: nn.Module):
        layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        places = [(layer, name) for layer in layers for name in ("running_mean", "running_var")]
        self._flat = torch.cat([getattr(*place) for place in places] or [torch.empty(0)])
        sizes = [getattr(*place).numel() for place in places]
        for (layer, name), part in zip(places, self._flat.split(sizes), strict=True):
            setattr(layer, name, part)
        self._last = self._flat.clone()

    @torch.no_grad()
    def average(self) -> None:
        """Replaces every running statistic by its mean over the ranks.

        Where one of them is not finite, all stay as they were before the step: a bad activation
        must not outlive it.
        """
        if dist.get_world_size() > 1:
            dist.all_reduce(self._flat)
            self._flat /= dist.get_world_size()
        is_finite = torch.isfinite(self._flat).all()
        self._last = torch.where(is_finite, self._flat, self._last)
        self._flat.copy_(self._last)
