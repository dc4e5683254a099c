"""Recipe of a folder of shards: the options that it was packed with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, FailFast, Field

from md2dist.data.images import ImageFormat
from md2dist.storage.typed_json import Count, Label, Positive

PACK_COMMAND = "md2dist pack --kitti-root DIR --split FILE --output DIR"
GroundTruth = Literal["none", "velodyne", "annotated", "depth"]
GROUND_TRUTH_REMEDY = (  # for messages
    "--ground-truth velodyne (annotated for eigen_benchmark, depth for own depth maps)"
)
Order = Literal["shuffled", "sequential"]
MAX_SIZE = 1 << 14  # rows or columns of an image; bounds the memory that a foreign file can claim
MAX_OFFSET = 9999  # frames
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]


def is_valid_offsets(offsets: Sequence[int]) -> bool:
    """Returns whether frame offsets are ascending, distinct and without 0, and not too large."""
    is_ascending = list(offsets) == sorted(set(offsets))
    return is_ascending and 0 not in offsets and all(abs(n) <= MAX_OFFSET for n in offsets)


def _check_offsets(offsets: tuple[int, ...]) -> tuple[int, ...]:
    if not is_valid_offsets(offsets):
        raise ValueError(f"expected ascending distinct offsets without 0, at most {MAX_OFFSET}")
    return offsets


@dataclass(frozen=True)
class Recipe:
    """The options that shards were packed with."""

    split: Label  # name of the split, for display
    height: Size | None  # rows of the packed images in pixels; None: each keeps its native size
    width: Size | None  # columns in pixels
    # Temporal sources, ascending, without 0.
    frame_offsets: Annotated[tuple[int, ...], FailFast(), AfterValidator(_check_offsets)]
    use_stereo: bool  # whether the view of the other camera is packed
    image_format: ImageFormat = "png"
    # Of jpg; the other formats are lossless.
    image_quality: Annotated[int, Field(ge=1, le=100)] = 95
    samples_per_shard: Positive = 256  # the last shard may hold fewer
    seed: Count = 0  # of the shuffled order
    ground_truth: GroundTruth = "none"
    order: Order = "shuffled"  # over the whole split, before it is cut into shards

    @property
    def size_name(self) -> str:
        """Size of the packed images, for display."""
        return "native size" if self.height is None else f"{self.height}x{self.width}"

    @property
    def ground_truth_name(self) -> str | None:
        """Name of the member that holds the ground truth; None if there is none."""
        return None if self.ground_truth == "none" else f"{self.ground_truth}.npz"


def view_names(frame_offsets: Sequence[int], use_stereo: bool) -> list[str]:
    """Names of a sample's views: target, sources with ascending offsets, stereo.

    >>> view_names((-1, 1), use_stereo=True)
    ['0', '-1', '+1', 's']
    """
    return ["0", *(f"{offset:+d}" for offset in sorted(frame_offsets)), *(["s"] * use_stereo)]
