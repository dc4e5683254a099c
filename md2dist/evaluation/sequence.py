"""Packed sequence: consecutive frames of one camera in shards, and the motions between them."""

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from md2dist.data.shards.dataset import Sample, ShardDataset
from md2dist.errors import EvaluationError, PredictionError, ShardError

MotionPredictor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_REMEDY = (
    "expected a whole sequence, for example packed with `md2dist pack "
    "--kitti-root DIR --split odom/test_09 --output DIR --frame-offsets 1 --no-stereo "
    "--order sequential`"
)


class FrameRange(NamedTuple):
    """Consecutive frames of one camera."""

    drive: str  # a sequence of KITTI odometry, e.g. 09, or a drive
    side: str  # l or r
    first: int  # number of the first frame
    last: int  # number of the last one, the neighbour of the last target

    def __str__(self) -> str:
        camera = {"l": "left", "r": "right"}[self.side]
        kind = "sequence" if self.drive.isdigit() else "drive"
        return f"{kind} {self.drive}, {camera} camera, frames {self.first} to {self.last}"

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.last - self.first + 1


def find_frames(dataset: ShardDataset) -> FrameRange:
    """Reads from recipe, first and last sample which frames shards hold.

    Raises:
        ShardError: if they are not the consecutive frames of one camera, each with the next one.
    """
    folder, recipe = dataset.place, dataset.manifest.recipe
    if 1 not in recipe.frame_offsets:
        raise ShardError(f"{folder} lacks the next frame of each target; {_REMEDY}")
    if recipe.order != "sequential":
        raise ShardError(f"{folder} is packed in {recipe.order} order; {_REMEDY}")
    if len(dataset) == 0:
        raise ShardError(f"{folder} has no samples; {_REMEDY}")
    first, last = dataset[0].info, dataset[len(dataset) - 1].info
    frames = FrameRange(first["drive"], first["side"], first["frame"], last["frame"] + 1)
    is_one = (last["drive"], last["side"]) == (frames.drive, frames.side)
    if not is_one or frames.num_frames != len(dataset) + 1:
        names = [f"{some['drive']} {some['frame']} {some['side']}" for some in (first, last)]
        raise ShardError(
            f"{folder} holds {len(dataset)} samples from {names[0]} to {names[1]}, which are not "
            f"the consecutive frames of one camera; {_REMEDY}"
        )
    return frames


def predict_motions(
    predict: MotionPredictor, dataset: ShardDataset, frames: FrameRange, batch_size: int = 8
) -> NDArray[np.float64]:
    """Predicts the motion from each frame of a packed sequence to the next one.

    Args:
        predict: maps frames (B, H, W, 3) uint8 and the next ones to point transforms (B, 4, 4).
        dataset: the shards.
        frames: the frames that they hold.
        batch_size: pairs of frames per call of `predict`.

    Returns:
        (N-1, 4, 4) float64, point transforms of frame i to frame i+1.

    Raises:
        ShardError: if a sample is damaged, or is not the next frame.
        PredictionError: if a motion is not finite.
        EvaluationError: if the batch size is < 1.
    """
    if batch_size < 1:
        raise EvaluationError(f"batch size {batch_size}: expected >= 1")
    numbers = range(len(dataset))
    samples = dataset.samples(numbers)
    motions = []
    for start in numbers[::batch_size]:
        batch = list(islice(samples, batch_size))
        for position, sample in enumerate(batch, start):
            _check_place(sample, frames, position, dataset.place)
        views = [torch.from_numpy(np.stack([s.frames[v] for s in batch])) for v in ("0", "+1")]
        motion = predict(*views).double().cpu().numpy()
        if not np.isfinite(motion).all():
            raise PredictionError(
                f"the model predicts motions that are not finite, first near frame "
                f"{frames.first + start}; use --dtype fp32, or other weights"
            )
        motions.append(motion)
    return np.concatenate(motions)


def _check_place(sample: Sample, frames: FrameRange, position: int, folder: str) -> None:
    info = sample.info
    expected = (frames.drive, frames.side, frames.first + position)
    if (info["drive"], info["side"], info["frame"]) != expected:
        raise ShardError(
            f"sample {position} of {folder} is frame {info['frame']} of {info['drive']}, "
            f"but frame {expected[2]} of {frames.drive} should follow; {_REMEDY}"
        )
