"""Recipe of a folder of shards: the options that it was packed with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from md2dist.data.images import ImageFormat

PACK_COMMAND = "python shard_tools/make_shards.py --kitti-root DIR --split FILE --output DIR"
GroundTruth = Literal["none", "velodyne", "annotated"]
Order = Literal["shuffled", "sequential"]


@dataclass(frozen=True)
class Recipe:
    """The options that shards were packed with."""

    split: str  # name of the split, for display
    height: int | None  # rows of the packed images in pixels; None: each keeps its native size
    width: int | None  # columns in pixels
    frame_offsets: tuple[int, ...]  # temporal sources, ascending, without 0
    use_stereo: bool  # whether the view of the other camera is packed
    image_format: ImageFormat = "png"
    image_quality: int = 95  # quality of jpg, 1..100; the other formats are lossless
    samples_per_shard: int = 256  # the last shard may hold fewer
    seed: int = 0  # of the shuffled order
    ground_truth: GroundTruth = "none"
    order: Order = "shuffled"  # over the whole split, before it is cut into shards

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Recipe":
        """Restores a recipe from its form in the manifest."""
        return cls(**{**stored, "frame_offsets": tuple(stored["frame_offsets"])})

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
