"""Finding the recordings of `--frames`: folders of frames, videos, and folders of these."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from md2dist.data.image_reader import IMAGE_SUFFIXES
from md2dist.data.kitti.places import may_be, scan
from md2dist.data.recordings.camera_file import (
    CAMERA_NAME,
    CameraSettings,
    find_camera_file,
    read_camera_file,
)
from md2dist.data.recordings.frame_names import natural_key, number_frames
from md2dist.data.video import VIDEO_SUFFIXES, count_frames, is_video
from md2dist.errors import ConfigError, DamagedImageError, KittiDataError

_LONGEST_NAME = 70  # characters; the key of a sample adds 13, and 86 are allowed
_EXPECTED = (
    "expected a folder of frames (png, jpg, jpeg), a video "
    f"({', '.join(suffix[1:] for suffix in VIDEO_SUFFIXES)}), or a folder of these"
)


class Recording(NamedTuple):
    """A sequence of frames of one camera or of two."""

    name: str
    folder: Path
    left: str  # folder or video of the left camera in it; empty: the folder itself
    camera_file: Path
    settings: CameraSettings

    def reel(self, side: str) -> str | None:
        """Returns the folder or video of a camera, in the recording's folder; None if missing."""
        return self.left if side == "l" else self.settings.right


def find_recordings(roots: Sequence[Path]) -> dict[str, Recording]:
    """Finds the recordings in folders, or videos; by name, in natural order.

    A recording is called like its folder or video, with `_` for everything but letters and digits.

    Raises:
        KittiDataError: if a root holds none, or two have the same name.
        ConfigError: if a ``camera.yaml`` is missing or damaged.
        KittiAccessError: if access to a folder is denied.
    """
    found: dict[str, Recording] = {}
    for root in roots:
        for folder, left in _list_recordings(root):
            recording = _open_recording(folder, left)
            other = found.setdefault(recording.name, recording)
            if other is not recording:
                raise KittiDataError(
                    f"{folder / left} and {other.folder / other.left} would both be called "
                    f"{recording.name}; rename one of them"
                )
    return found


def list_reel(path: Path) -> dict[int, str]:
    """Lists the frames of a camera: names in its folder, or numbers in its video, by frame number.

    Raises:
        KittiDataError: if there are none, frames are missing in between, or the video is damaged.
        ImageError: if the video cannot be read, or PyAV is not installed.
    """
    if not path.is_dir() and is_video(path.name):
        try:
            return {number: f"{number:010d}" for number in range(count_frames(path))}
        except DamagedImageError as error:
            raise KittiDataError(error) from None
    frames = number_frames(list_images(path), str(path))
    if not frames:
        raise KittiDataError(f"{path} holds no frames; {_EXPECTED}")
    return frames


def list_images(folder: Path) -> list[str]:
    """Lists the names of the image files in a folder."""
    return [
        entry.name
        for entry in scan(folder)
        if entry.name.endswith(IMAGE_SUFFIXES) and may_be(entry.is_file)
    ]


def _list_recordings(root: Path) -> Iterator[tuple[Path, str]]:
    """Yields folders, and names of the left camera's frames in them."""
    if root.is_file() and is_video(root.name):
        yield root.parent, root.name
    elif not root.is_dir():
        state = "is another file" if root.exists() else "does not exist"
        raise KittiDataError(f"--frames {root} {state}; {_EXPECTED}")
    elif (left := _find_left(root)) is not None:
        yield root, left
    else:
        names = sorted((entry.name for entry in scan(root)), key=natural_key)
        settings = _read_settings(root)
        named = (settings.right, settings.depth) if settings else ()
        is_empty = True
        for name in (name for name in names if name not in named):
            path = root / name
            if path.is_dir() and (left := _find_left(path)) is not None:
                yield path, left
            elif path.is_file() and is_video(name):
                yield root, name
            else:
                continue
            is_empty = False
        if is_empty:
            shown = ", ".join(names[:3]) + ", ..." * (len(names) > 3) or "no files"
            raise KittiDataError(f"--frames {root} holds no frames ({shown}); {_EXPECTED}")


def _find_left(folder: Path) -> str | None:
    """Returns the place of the left camera's frames in a recording; None if it is none."""
    settings = _read_settings(folder)
    if settings and settings.left:
        return settings.left if (folder / settings.left).exists() else None
    return "" if list_images(folder) else None


def _read_settings(folder: Path) -> CameraSettings | None:
    path = find_camera_file(folder)
    return read_camera_file(path) if path else None


def _open_recording(folder: Path, left: str) -> Recording:
    path = find_camera_file(folder)
    if path is None:
        raise ConfigError(
            f"{folder / left} has no camera: expected {CAMERA_NAME} beside the frames or in the "
            "folder above, with fx, fy, cx, cy, width and height in pixels"
        )
    settings = read_camera_file(path)
    is_own_video = not settings.left and is_video(left)
    name = Path(left).stem if is_own_video else folder.resolve().name
    return Recording(make_name(name), folder, left, path, settings)


def make_name(text: str) -> str:
    """Returns the name of a recording, as keys of samples and lines of a split take it.

    Numbers are the names of KITTI odometry's sequences, so they get a prefix.

    >>> make_name("My walk (2)")
    'My_walk_2'
    >>> make_name("07")
    'sequence_07'

    Raises:
        KittiDataError: if it has no letter or digit of ASCII, or is too long.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")
    if name.isdecimal():
        name = f"sequence_{name}"
    if not re.search(r"[A-Za-z0-9]", name) or len(name) > _LONGEST_NAME:
        raise KittiDataError(
            f"{text!r} gives no name of a sequence; rename the folder or video, to at most "
            f"{_LONGEST_NAME} letters and digits of ASCII"
        )
    return name
