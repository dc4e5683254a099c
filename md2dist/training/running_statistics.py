"""Running statistics of batch norm, averaged over the ranks."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from md2dist.training.gradient_guard import is_finite


class RunningStatistics:
    """Averages the running means and variances of a model over the ranks after each step.

    Each rank normalises with the statistics of its own micro-batch; without the average their
    running statistics would drift apart, and a checkpoint would hold those of rank 0 only.

    Args:
        model: on its final device: its running statistics become views of one flat tensor, so that
            averaging is a single all-reduce without copies.
    """

    def __init__(self, model: nn.Module):
        layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        buffers = [(layer, name) for layer in layers for name in ("running_mean", "running_var")]
        self._flat = torch.cat([getattr(*buffer) for buffer in buffers] or [torch.empty(0)])
        sizes = [getattr(*buffer).numel() for buffer in buffers]
        for (layer, name), part in zip(buffers, self._flat.split(sizes), strict=True):
            setattr(layer, name, part)
        self._last = self._flat.clone()

    @torch.no_grad()
    def average(self) -> None:
        """Replaces every running statistic by its mean over the ranks.

        If any of them is not finite, all keep their values from before the step.
        """
        if not len(self._flat):  # no batch norm; NCCL would refuse a tensor of the host
            return
        if dist.get_world_size() > 1:
            dist.all_reduce(self._flat)
            self._flat /= dist.get_world_size()
        are_finite = is_finite(self._flat).all()
        self._last = torch.where(are_finite, self._flat, self._last)
        self._flat.copy_(self._last)
