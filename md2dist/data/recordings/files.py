"""Files of recordings by name: `RECORDING/camera.yaml`, images, and frames of videos as PNG."""

import io
from contextlib import closing
from functools import cache
from pathlib import Path

from md2dist.data.image_size import read_size
from md2dist.data.kitti.places import Folder
from md2dist.data.kitti.size_limits import check_size
from md2dist.data.recordings.camera_file import CAMERA_NAME
from md2dist.data.recordings.discovery import Recording, find_recordings
from md2dist.data.recordings.video_reader import VideoReader
from md2dist.data.video import is_video, read_frames
from md2dist.errors import DamagedImageError, KittiDataError


class RecordingFiles:
    """The files of the recordings in some folders.

    A name is that of the recording and a path in its folder, such as ``walk/frame0001.png``; that
    of a frame of a video is the video's and ten digits, ``walk/walk.mp4/0000000001``. Recordings
    are searched on first use. It can be pickled; each process searches them itself.

    Args:
        *roots: the folders, or videos.
    """

    def __init__(self, *roots: Path):
        self.roots = roots
        self._recordings: dict[str, Recording] | None = None
        self._video_size = cache(_find_video_size)
        self._video: VideoReader | None = None  # the one read last

    def __reduce__(self):
        return open_files, self.roots

    def __str__(self) -> str:
        return ", ".join(map(str, self.roots))

    @property
    def recordings(self) -> dict[str, Recording]:
        """The recordings by name; errors are those of `find_recordings`."""
        if self._recordings is None:
            self._recordings = find_recordings(self.roots)
        return self._recordings

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes; None if there is no such file."""
        path, frame = self._locate(name)
        if frame is None:
            return Folder(path.parent).size(path.name)
        try:
            return len(self.read(name))
        except KittiDataError:
            return None

    def stamp(self, name: str) -> str | None:
        """Returns a text that changes with a file's content; None if there is no such file."""
        path, _ = self._locate(name)
        return Folder(path.parent).stamp(path.name)

    def read(self, name: str) -> bytes:
        """Reads a file; of a frame of a video, returns a PNG.

        Raises:
            KittiDataError: if the file is missing, damaged or too large.
            KittiAccessError: if access to it is denied.
            ImageError: if a video cannot be read, or PyAV is not installed.
        """
        path, frame = self._locate(name)
        if frame is not None:
            return self._read_frame(path, frame)
        size = Folder(path.parent).size(path.name)
        if size is None:
            raise KittiDataError(f"no file {name}")
        check_size(name, size)
        return Folder(path.parent).read(path.name)

    def image_size(self, name: str) -> tuple[int, int] | None:
        """Returns height and width of an image in pixels; None if it is damaged.

        Raises:
            ImageError: if it cannot be read.
        """
        path, frame = self._locate(name)
        try:
            return read_size(path) if frame is None else self._video_size(path)
        except DamagedImageError:
            return None

    def _locate(self, name: str) -> tuple[Path, int | None]:
        """Returns a path, and the number of the frame if it is a video."""
        recording_name, _, rest = name.partition("/")
        recording = self.recordings[recording_name]
        if rest == CAMERA_NAME:
            return recording.camera_file, None
        path = recording.folder / rest
        if is_video(path.parent.name) and path.parent.is_file():
            return path.parent, int(path.name)
        return path, None

    def _read_frame(self, path: Path, number: int) -> bytes:
        if self._video is None or self._video.path != path:
            self._video = VideoReader(path)
        stream = io.BytesIO()
        try:
            self._video.read(number).save(stream, "PNG", compress_level=0)
        except DamagedImageError as error:
            raise KittiDataError(error) from None
        return stream.getvalue()


def _find_video_size(path: Path) -> tuple[int, int]:
    """Returns height and width of the first frame, which all others have."""
    with closing(read_frames(path)) as frames:
        image = next(frames).to_image()
    return image.height, image.width


@cache
def open_files(*roots: Path) -> RecordingFiles:
    """Returns the files of some folders, one object per process, shared by all of its jobs."""
    return RecordingFiles(*roots)


def name_file(recording: str, *parts: str) -> str:
    """Joins the name of a recording and the parts of a path in its folder, of which some are empty.

    Raises:
        KittiDataError: if it is not UTF-8, as shards name it.

    >>> name_file("walk", "", "frame0001.png")
    'walk/frame0001.png'
    """
    name = "/".join(part for part in (recording, *parts) if part)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise KittiDataError(f"the name {name!r} is not UTF-8; rename the file") from None
    return name
