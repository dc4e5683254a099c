"""Recordings as a source of frames: folders of frames and videos, each with a `camera.yaml`."""

from collections.abc import Callable, Collection
from functools import cache, cached_property
from pathlib import Path
from posixpath import splitext

import numpy as np

from md2dist.data.images import decode_depth
from md2dist.data.intrinsics import Camera
from md2dist.data.kitti.layout import Side
from md2dist.data.recordings.camera_file import CAMERA_NAME
from md2dist.data.recordings.discovery import Recording, list_images, list_reel
from md2dist.data.recordings.files import RecordingFiles, name_file
from md2dist.errors import ConfigError, KittiDataError

_GROUND_TRUTHS = ("none", "depth")
_SIDES: tuple[Side, ...] = ("l", "r")
_ROUNDING = 1.0  # pixels, of a resized image's rows or columns


class RecordingSource:
    """The recordings in some folders.

    Args:
        files: their files.
    """

    def __init__(self, files: RecordingFiles):
        self.files = files
        self._list_reel = cache(list_reel)  # a folder is listed once per process

    def __reduce__(self):
        return RecordingSource, (self.files,)

    def list_sequences(self) -> list[str]:
        """Lists the names of the recordings."""
        return list(self.files.recordings)

    def open_sequence(self, name: str, ground_truth: str) -> "RecordingSequence":
        """Opens a recording.

        Raises:
            KittiDataError: if there is none of that name.
            ConfigError: if recordings have no such ground truth.
        """
        if ground_truth not in _GROUND_TRUTHS:
            raise ConfigError(
                f"--ground-truth {ground_truth} is KITTI's; of --frames expected one of "
                f"{', '.join(_GROUND_TRUTHS)}"
            )
        recording = self.files.recordings.get(name)
        if recording is None:
            raise KittiDataError(f"no sequence {name}; {self.describe()}")
        return RecordingSequence(self.files, recording, self._list_reel)

    def describe(self) -> str:
        """Names the recordings, for messages."""
        names = self.list_sequences()
        shown = ", ".join(names[:10]) + f" and {len(names) - 10} more" * (len(names) > 10)
        return f"{self.files} holds {shown}"

    def explain_missing(self, name: str, ground_truth: str) -> str:
        """Returns nothing: errors of recordings name the place of what is missing."""
        return ""


class RecordingSequence:
    """A recording: frames of the left camera and, if there is one, of the right camera.

    Methods raise a `KittiDataError` for what is missing or damaged, a `KittiAccessError` for what
    cannot be accessed.

    Args:
        files: the files of all recordings.
        recording: the recording.
        list_frames: `list_reel`, perhaps cached.
    """

    def __init__(
        self,
        files: RecordingFiles,
        recording: Recording,
        list_frames: Callable[[Path], dict[int, str]] = list_reel,
    ):
        self._files, self._recording, self._list_reel = files, recording, list_frames

    def list_frames(self, side: Side) -> Collection[int]:
        """Lists the numbers of the frames that one camera has; empty if there is no camera."""
        return self._frames(side).keys()

    def list_ground_truth(self, side: Side) -> set[int]:
        """Lists the numbers of the frames of the left camera that have a depth map."""
        if side == "r":
            return set()
        present = self._depth_maps
        return {frame for frame in self._frames("l") if self._depth_name(frame) in present}

    def find_image(self, frame: int, side: Side) -> str:
        """Returns the name of one camera's image."""
        frames = self._frames(side)
        if frame not in frames:
            raise KittiDataError(
                f"no frame {frame}; {self._recording.name} has frames {min(frames)} to "
                f"{max(frames)}"
            )
        return name_file(self._recording.name, self._recording.reel(side) or "", frames[frame])

    def find_ground_truth(self, frame: int, side: Side) -> str:
        """Returns the name of a frame's depth map."""
        if side == "r":
            raise KittiDataError(
                f"no depth map for the right camera; {CAMERA_NAME} names those of the left one"
            )
        folder, name = self._recording.settings.depth or "", self._depth_name(frame)
        if name not in self._depth_maps:
            raise KittiDataError(
                f"no depth map {name_file(self._recording.name, folder, name)}; maps are called "
                "like their frames"
            )
        return name_file(self._recording.name, folder, name)

    def check_stereo(self, side: Side) -> None:
        """Checks that there is a right camera."""
        if not self._recording.settings.right:
            raise KittiDataError(
                f"{self._recording.camera_file} names no right camera; add `right: FOLDER` and "
                "`baseline` in m, or pack with --no-stereo"
            )

    def camera_files(self) -> list[str]:
        """Returns the name of ``camera.yaml``."""
        return [name_file(self._recording.name, CAMERA_NAME)]

    def read_camera(self, side: Side) -> Camera:
        """Returns the camera; the two of a stereo pair are alike."""
        settings = self._recording.settings
        return Camera(
            K=settings.K,
            size=(settings.height, settings.width),
            baseline=settings.baseline or 0.0,
            name="the camera",
            pair="the pair of cameras",
        )

    def check_size(
        self, frame: int, side: Side, size: tuple[int, int], *, has_ground_truth: bool
    ) -> None:
        """Checks that an image shows what the camera's size shows: it may be smaller or larger."""
        settings = self._recording.settings
        excess = size[0] * settings.width - size[1] * settings.height
        if abs(excess) > _ROUNDING * max(settings.width, settings.height):
            raise KittiDataError(
                f"the frames of {self._recording.name} are {size[1]}x{size[0]} (width x height), "
                f"but {self._recording.camera_file} is for {settings.width}x{settings.height}, "
                "another aspect ratio; give the intrinsics of frames of this shape"
            )

    def read_ground_truth(self, name: str, side: Side, size: tuple[int, int]) -> np.ndarray:
        """Reads the depth map of an image.

        Args:
            name: the file that `find_ground_truth` returned.
            side: the camera.
            size: height and width of the image in pixels.

        Returns:
            Depth (H, W) float32 in m, 0 where unknown.

        Raises:
            KittiDataError: if the file is damaged, or its size differs from that of the image.
        """
        depth = decode_depth(self._files.read(name), f"depth map {name}")
        if depth.shape != size:
            raise KittiDataError(
                f"depth map {name} has {depth.shape[1]}x{depth.shape[0]} pixels, its frame "
                f"{size[1]}x{size[0]}; resize the map without interpolation"
            )
        return depth

    def check(self) -> None:
        """Checks, before anything is packed, what all frames have in common.

        Raises:
            KittiDataError: if frames are missing, of different sizes or not of the camera's aspect
                ratio, or the cameras have different frames.
        """
        first: tuple[str, tuple[int, int]] | None = None
        for side in _SIDES:
            for frame in self._frames(side):
                name = self.find_image(frame, side)
                size = self._files.image_size(name)
                if size is None:  # damaged, which packing reports or skips
                    continue
                first = first or (name, size)
                if size != first[1]:
                    raise KittiDataError(
                        f"frames differ in size: {first[0]} is {first[1][1]}x{first[1][0]}, {name} "
                        f"is {size[1]}x{size[0]}; keep frames of one size in a folder"
                    )
        if first:
            self.check_size(0, "l", first[1], has_ground_truth=False)

    @cached_property
    def _depth_maps(self) -> set[str]:
        recording = self._recording
        if not recording.settings.depth:
            raise KittiDataError(
                f"{recording.camera_file} names no depth maps; add `depth: FOLDER`, a folder of "
                "16-bit PNG in steps of 1/256 m, called like the frames"
            )
        return set(list_images(recording.folder / recording.settings.depth))

    def _depth_name(self, frame: int) -> str:
        return f"{splitext(self._frames('l').get(frame, str(frame)))[0]}.png"

    def _frames(self, side: Side) -> dict[int, str]:
        """Returns the frames of a camera; those of the right one have the numbers of the left."""
        return self._right_frames if side == "r" else self._list_side(side)

    def _list_side(self, side: Side) -> dict[int, str]:
        reel = self._recording.reel(side)
        return {} if reel is None else self._list_reel(self._recording.folder / reel)

    @cached_property
    def _right_frames(self) -> dict[int, str]:
        frames = self._list_side("r")
        if frames:
            self._check_pair(self._frames("l"), frames)
        return frames

    def _check_pair(self, left: Collection[int], right: Collection[int]) -> None:
        if set(left) != set(right):
            counts = " and ".join(
                f"{len(frames)} frames of the {name} camera ({min(frames)} to {max(frames)})"
                for name, frames in (("left", left), ("right", right))
            )
            raise KittiDataError(
                f"{self._recording.name} has {counts}; expected a frame of both at each time"
            )


def open_recordings(*roots: Path) -> RecordingSource:
    """Opens folders of frames and videos after checking them.

    Raises:
        KittiDataError: if a recording has faults, see `RecordingSequence.check`.
        ConfigError: if a ``camera.yaml`` is missing or has faults.
        KittiAccessError: if access to a file is denied.
        ImageError: if a video cannot be read, or PyAV is not installed.
    """
    source = RecordingSource(RecordingFiles(*roots))
    for name in source.list_sequences():
        source.open_sequence(name, "none").check()
    return source
