"""Video files: their frames in the order of display, upright, decoded by PyAV (extra `video`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from md2dist.data.image_reader import MAX_PIXELS
from md2dist.errors import DamagedImageError, ImageError
from md2dist.storage.bounded import open_regular

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
# Other formats, e.g. playlists, name further files, which FFmpeg would open.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
_UPRIGHT = {  # from the counterclockwise angle in degrees that a phone stores
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
_UNSPECIFIED = 2  # colour matrix of a frame; it is BT.709 above the height of standard definition
_STANDARD_HEIGHT = 576
_LIMITED, _FULL = 1, 2  # ranges of values


def is_video(name: str) -> bool:
    """Returns whether a file's name has the suffix of a video, in any spelling."""
    return name.lower().endswith(VIDEO_SUFFIXES)


def count_frames(path: Path) -> int:
    """Counts the frames of a video without decoding them.

    Raises:
        ImageError: if it cannot be read, or PyAV is not installed.
    """
    with _open(path) as (container, stream), _explaining(path):
        packets = container.demux(stream)
        # Phones store frames before the start, which a cut leaves out.
        return sum(1 for packet in packets if packet.size and not packet.is_discard)


def read_frames(path: Path) -> Iterator[Image.Image]:
    """Yields the frames of a video as upright RGB.

    Raises:
        ImageError: if it cannot be read, or PyAV is not installed.
        DamagedImageError: if a frame cannot be decoded.
    """
    with _open(path) as (container, stream):
        frames = container.decode(stream)
        while True:
            with _explaining(path):
                frame = next(frames, None)
            if frame is None:
                return
            with _explaining(path):
                image = _to_rgb(frame)
            yield image


class VideoReader:
    """Reads frames of a video by number; in ascending order, each is decoded once.

    Args:
        path: the video.
    """

    def __init__(self, path: Path):
        self._path = path
        self._frames: Iterator[Image.Image] = iter(())
        self._next = 0  # number of the frame that the iterator yields next
        self._last: Image.Image | None = None  # the one before

    def read(self, number: int) -> Image.Image:
        """Returns a frame as upright RGB.

        Raises:
            ImageError: as `read_frames`.
            DamagedImageError: if the video ends before it.
        """
        if self._last is None or number < self._next - 1:
            self._frames, self._next = read_frames(self._path), 0
        while self._last is None or self._next <= number:
            self._last = next(self._frames, None)
            if self._last is None:
                raise DamagedImageError(
                    f"{self._path} ends after {self._next} frames; frame {number} is expected"
                )
            self._next += 1
        return self._last


def _to_rgb(frame: "VideoFrame") -> Image.Image:
    """Converts a frame to RGB, by its own colour matrix and range, and turns it upright."""
    matrix = None
    if frame.colorspace == _UNSPECIFIED:
        matrix = "itu709" if frame.height > _STANDARD_HEIGHT else "itu601"
    image = frame.to_image(
        src_colorspace=matrix,
        src_color_range=frame.color_range or _LIMITED,
        dst_color_range=_FULL,
    )
    turn = round(frame.rotation / 90) * 90 % 360
    return image.transpose(_UPRIGHT[turn]) if turn else image


@contextmanager
def _open(path: Path) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    try:
        import av  # imported late: it is optional
    except ImportError:
        raise ImageError(
            f'{path} is a video and needs PyAV (av): pip install -c constraints.txt -e ".[video]", '
            "or pip install av; or extract its frames as PNG or JPEG"
        ) from None
    try:
        file: Any = open_regular(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from None
    with file:
        with _explaining(path):
            options = {"format_whitelist": _FORMATS, "protocol_whitelist": ""}
            container: Any = av.open(file, "r", container_options=options)
        with container:
            streams = [
                stream
                for stream in container.streams.video
                if not stream.disposition & stream.disposition.attached_pic  # a cover
            ]
            if not streams:
                raise ImageError(f"{path} has no video stream")
            streams[0].thread_type = "AUTO"
            streams[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            yield container, streams[0]


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # FFmpeg's errors, and those of damaged headers
        raise DamagedImageError(
            f"{path} cannot be decoded ({type(error).__name__}: {error}); convert it to MP4 (H.264)"
        ) from None
