"""The recipe of a folder of shards: everything that was asked for when it was packed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from md2dist.data.images import ImageFormat

PACK_COMMAND = "python shard_tools/make_shards.py --kitti-root DIR --split FILE --output DIR"
GroundTruth = Literal["none", "velodyne", "annotated"]
Order = Literal["shuffled", "sequential"]


@dataclass(frozen=True)
class Recipe:
    """Everything that was asked for when the shards were made."""

    split: str  # name of the list of samples, for people
    height: int | None  # rows of the packed images in pixels; None: each keeps its native size
    width: int | None  # columns
    frame_offsets: tuple[int, ...]  # temporal sources, ascending, without 0
    use_stereo: bool  # whether the other camera's view is packed
    image_format: ImageFormat = "png"
    image_quality: int = 95  # of jpg; the other formats are lossless
    samples_per_shard: int = 256  # the last shard may hold fewer
    seed: int = 0  # of the order
    ground_truth: GroundTruth = "none"
    order: Order = "shuffled"  # over the whole split, before it is cut into shards

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Recipe":
        """Reads a recipe as the manifest stores it."""
        return cls(**{**stored, "frame_offsets": tuple(stored["frame_offsets"])})

    @property
    def size_name(self) -> str:
        """The size of the packed images, for people."""
        return "native size" if self.height is None else f"{self.height}x{self.width}"

    @property
    def ground_truth_name(self) -> str | None:
        """The member that holds the ground truth; None where there is none."""
        return None if self.ground_truth == "none" else f"{self.ground_truth}.npz"


def view_names(frame_offsets: Sequence[int], use_stereo: bool) -> list[str]:
    """Names of a sample's views: target, sources with ascending offsets, stereo.

    >>> view_names((-1, 1), use_stereo=True)
    ['0', '-1', '+1', 's']
    """
    return ["0", *(f"{offset:+d}" for offset in sorted(frame_offsets)), *(["s"] * use_stereo)]
