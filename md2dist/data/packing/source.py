"""Interface of what is packed: where the frames, cameras and ground truth of sequences come from.

KITTI (`data/kitti/source`) and recordings of one's own (`data/recordings/source`) provide it.
"""

from collections.abc import Collection
from typing import Protocol

import numpy as np

from md2dist.data.intrinsics import Camera
from md2dist.data.kitti.layout import Side
from md2dist.data.shards.recipe import GroundTruth


class SourceFiles(Protocol):
    """Files by name. Its text is the place of all of them, for messages."""

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes; None if there is no such file."""
        ...

    def stamp(self, name: str) -> str | None:
        """Returns a text that changes with a file's content; None if there is no such file."""
        ...

    def read(self, name: str) -> bytes:
        """Reads a file.

        Raises:
            KittiDataError: if the file is missing, damaged or too large.
            KittiAccessError: if access to it is denied.
        """
        ...


class FrameSequence(Protocol):
    """Frames, cameras and one kind of ground truth of a sequence.

    A missing or damaged file is a `KittiDataError`, one that cannot be accessed a
    `KittiAccessError`.
    """

    def list_frames(self, side: Side) -> Collection[int]:
        """Lists the numbers of the frames that one camera has; empty if there is no camera."""
        ...

    def list_ground_truth(self, side: Side) -> Collection[int]:
        """Lists the numbers of the frames for which one camera has ground truth."""
        ...

    def find_image(self, frame: int, side: Side) -> str:
        """Returns the name of one camera's image."""
        ...

    def find_ground_truth(self, frame: int, side: Side) -> str:
        """Returns the name of the file with a frame's ground truth."""
        ...

    def check_stereo(self, side: Side) -> None:
        """Checks that there is another camera than this one."""
        ...

    def camera_files(self) -> list[str]:
        """Returns the names of the files that describe the cameras, the first one first read."""
        ...

    def read_camera(self, side: Side) -> Camera:
        """Reads intrinsics and baseline of a camera."""
        ...

    def check_size(
        self, frame: int, side: Side, size: tuple[int, int], *, has_ground_truth: bool
    ) -> None:
        """Checks that an image has a height and width, in pixels, to which the camera applies."""
        ...

    def read_ground_truth(self, name: str, side: Side, size: tuple[int, int]) -> np.ndarray:
        """Returns depth (H, W) float32 in m, 0 where unknown, at an image's height and width."""
        ...


class FrameSource(Protocol):
    """Sequences by name, and their files."""

    @property
    def files(self) -> SourceFiles:
        """All files of the sequences."""
        ...

    def list_sequences(self) -> list[str]:
        """Lists the names of all sequences.

        Raises:
            KittiDataError: if some of them may not have been found.
        """
        ...

    def open_sequence(self, name: str, ground_truth: GroundTruth) -> FrameSequence:
        """Opens a sequence, which need not exist.

        Args:
            name: its name.
            ground_truth: kind of its ground truth.
        """
        ...

    def describe(self) -> str:
        """Describes what the source holds, for messages."""
        ...

    def explain_missing(self, name: str, ground_truth: GroundTruth) -> str:
        """Returns the end of an error message on a missing file of a sequence; it may be empty."""
        ...
