"""Motions to the neighbours of a frame: each pair in temporal order, one by one or together."""

from collections.abc import Callable, Sequence

import torch

from md2dist.geometry.pose import invert_transform

# From (N, ...) first and second frames, in temporal order, to T_second_first (N, 4, 4).
EstimateMotion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def predict_one_by_one(
    estimate: EstimateMotion, frames: Sequence[torch.Tensor], offsets: Sequence[int]
) -> list[torch.Tensor]:
    """Estimates the motion from the target to each neighbour.

    Args:
        estimate: the pose network.
        frames: the target and its neighbours, (B, ...) each.
        offsets: those of the neighbours, ascending, without 0.

    Returns:
        T_neighbour_target for each neighbour, (B, 4, 4).
    """
    (target, *neighbours), transforms = frames, []
    for offset, neighbour in zip(offsets, neighbours, strict=True):
        if offset < 0:
            transforms.append(invert_transform(estimate(neighbour, target)))
        else:
            transforms.append(estimate(target, neighbour))
    return transforms


def predict_together(
    estimate: EstimateMotion, frames: Sequence[torch.Tensor], offsets: Sequence[int]
) -> list[torch.Tensor]:
    """Does what `predict_one_by_one` does in one call of the pose network, on G * B pairs.

    Returns:
        T_neighbour_target for each of the G neighbours, (B, 4, 4).
    """
    target, *neighbours = frames
    num_past = sum(offset < 0 for offset in offsets)
    num_future = len(offsets) - num_past
    first = torch.cat((*neighbours[:num_past], *[target] * num_future))
    second = torch.cat((*[target] * num_past, *neighbours[num_past:]))
    transforms = estimate(first, second).unflatten(0, (len(offsets), len(target)))
    past, future = transforms[:num_past], transforms[num_past:]
    return [*invert_transform(past).unbind(), *future.unbind()] if num_past else [*future.unbind()]
