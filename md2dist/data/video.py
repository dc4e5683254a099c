"""Video files: their frames in the order of their times, upright and in RGB (extra `video`).

PyAV, the Python library of FFmpeg, is imported when it is needed. A video is one file: FFmpeg opens
no other file, and no address, that is named in it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from md2dist.data.image_reader import MAX_PIXELS
from md2dist.errors import DamagedVideoError, ImageError, VideoError
from md2dist.storage.bounded import open_regular

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
# Other formats, e.g. playlists, name further files, which FFmpeg would open.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,gif"
_UNSPECIFIED = 2  # colour matrix of a frame; it is BT.709 above the height of standard definition
_STANDARD_HEIGHT = 576
_LIMITED, _FULL = 1, 2  # ranges of values
_UPRIGHT = {  # from degrees counter-clockwise
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
_VP8_SHOWN = 0x10  # flag in the first byte of a frame, RFC 6386, section 9.1
_MISSING_S = 0.5  # at the end of a video, by which it counts as truncated
_DURATION = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")  # as Matroska writes it


class VideoInfo(NamedTuple):
    """What a container states about its video."""

    rate: Fraction  # mean number of frames per second
    time_base: Fraction  # unit of times, s
    num_frames: int | None


class VideoFrame(NamedTuple):
    """A decoded frame."""

    raw: av.VideoFrame
    time: int | None  # in units of the time base, from the start of the stream's clock
    duration: int | None
    path: Path  # of the video

    def to_image(self) -> Image.Image:
        """Converts the frame to RGB, by its own colour matrix and range, and turns it upright.

        Raises:
            DamagedVideoError: if it cannot be converted.
        """
        raw, matrix = self.raw, None
        if raw.colorspace == _UNSPECIFIED:
            matrix = "itu709" if raw.height > _STANDARD_HEIGHT else "itu601"
        with _explaining_damage(self.path):
            image = raw.to_image(
                src_colorspace=matrix,
                src_color_range=raw.color_range or _LIMITED,
                dst_color_range=_FULL,
            )
            turn = round(raw.rotation / 90) * 90 % 360
            return image.transpose(_UPRIGHT[turn]) if turn else image


class _Packets:
    """Counts the packets of a video, to find out whether any are missing at its end."""

    def __init__(self) -> None:
        self.num_frames = self._num_timed = 0
        self._end = Fraction(0)  # s

    def read(self, container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
        base = stream.time_base or Fraction(1)
        for packet in container.demux(stream):
            self.num_frames += _is_shown(packet, stream.codec_context.name)
            if packet.pts is not None:
                self._num_timed += 1
                self._end = max(self._end, (packet.pts + (packet.duration or 0)) * base)
            yield packet

    def check_end(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        """Raises a `DamagedVideoError` if the video ended before the end that it states."""
        rate = stream.average_rate or Fraction(25)
        stated = _stated_end(container, stream)
        found = None
        if stated is not None and stated - self._end > max(_MISSING_S, 2 / rate):
            found = f"{float(self._end):.1f} s of {float(stated):.1f} s"
        elif stream.time_base == 1 / rate and self._num_timed < stream.frames:  # AVI
            found = f"{self._num_timed} of {stream.frames} frames"
        if found:
            raise DamagedVideoError(
                f"{path} ends after {found}: it is truncated; copy it again, or convert it"
            )


def is_video(name: str) -> bool:
    """Returns whether a file's name has the suffix of a video, in any spelling."""
    return name.lower().endswith(VIDEO_SUFFIXES)


def is_video_frame(name: str) -> bool:
    """Returns whether a name is that of a video with the number of a frame: `a.mp4/0000000001`."""
    video, _, number = name.rpartition("/")
    return number.isdecimal() and is_video(video)


def import_av() -> ModuleType:
    """Imports PyAV.

    Raises:
        VideoError: if it is not installed.
    """
    try:
        import av
    except ImportError:
        raise VideoError(
            'videos need PyAV (av): pip install -c constraints.txt -e ".[video]", or pip install av'
        ) from None
    return av


def read_info(path: Path) -> VideoInfo:
    """Reads what a video states about itself.

    Raises:
        VideoError: if it cannot be read, or has no video stream.
    """
    with open_video(path) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        return VideoInfo(rate, stream.time_base or 1 / rate, stream.frames or None)


def count_frames(path: Path) -> int:
    """Counts the frames of a video without decoding them.

    Raises:
        VideoError: as `read_frames`.
    """
    packets = _Packets()
    with open_video(path) as (container, stream):
        for _ in packets.read(container, stream):
            pass
        packets.check_end(path, container, stream)
    return packets.num_frames


def read_frames(path: Path) -> Generator[VideoFrame]:
    """Decodes a video.

    Yields:
        The frames in the order of their times.

    Raises:
        VideoError: if it cannot be read.
        DamagedVideoError: if it has no frames, or ends before the end that it states.
    """
    packets, is_empty = _Packets(), True
    with open_video(path) as (container, stream):
        for packet in packets.read(container, stream):
            for frame in packet.decode():
                is_empty = False
                yield VideoFrame(frame, frame.pts, frame.duration or None, path)
        if is_empty:
            raise DamagedVideoError(f"{path} has no frames")
        packets.check_end(path, container, stream)


def sample_key_frames(path: Path, most: int) -> Iterator[Image.Image]:
    """Decodes up to `most` key frames that are spread over a video.

    Raises:
        VideoError: if it cannot be read.
    """
    kept: list[VideoFrame] = []
    stride, position = 1, 0
    with open_video(path) as (container, stream):
        stream.codec_context.skip_frame = "NONKEY"
        for packet in container.demux(stream):
            is_wanted = packet.dts is None  # flushes the decoder
            if packet.is_keyframe:
                is_wanted = position % stride == 0
                position += 1
            if not is_wanted:
                continue
            kept += [VideoFrame(frame, frame.pts, None, path) for frame in packet.decode()]
            if len(kept) >= 2 * most:
                kept, stride = kept[::2], 2 * stride
    step = -(-len(kept) // most) or 1
    for frame in kept[::step]:
        yield frame.to_image()


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a video for reading.

    Raises:
        VideoError: if it cannot be read, has no video stream, or PyAV is not installed.
        DamagedVideoError: for errors of FFmpeg inside.
    """
    av = import_av()
    try:
        file = open_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    with file, _explaining_damage(path):
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": ""}
        with av.open(file, "r", container_options=options) as container:
            streams = [
                stream
                for stream in container.streams.video
                if not stream.disposition & stream.disposition.attached_pic  # a cover
            ]
            if not streams:
                raise VideoError(f"{path} has no video stream; expected a video")
            streams[0].thread_type = "AUTO"
            streams[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            yield container, streams[0]


def _unreadable(path: Path, error: OSError) -> VideoError:
    return VideoError(f"{path} cannot be read: {error.strerror or error}")


def _is_shown(packet: av.Packet, codec: str) -> bool:
    """Returns whether the frame of a packet is shown, and not only a reference for others."""
    if not packet.size or packet.is_discard:  # phones store frames before the start, after a cut
        return False
    return codec != "vp8" or bool(bytes(packet)[0] & _VP8_SHOWN)


def _stated_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Returns the time in s at which a video ends by its header, None if it is silent."""
    start = (stream.start_time or 0) * (stream.time_base or Fraction(1))
    if stream.duration and stream.time_base:
        return start + stream.duration * stream.time_base
    if found := _DURATION.fullmatch(stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = found.groups()
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    if container.duration and len(container.streams) == 1:  # else that of the longest stream
        return start + Fraction(container.duration, 1_000_000)
    return None


@contextmanager
def _explaining_damage(path: Path) -> Iterator[None]:
    """Raises a `DamagedVideoError` for the errors of FFmpeg, which are of many types.

    Those of the file's disk become a `VideoError`.
    """
    av = import_av()
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):  # of the disk
            raise _unreadable(path, error) from None
        reason = getattr(error, "strerror", None) or error
        raise DamagedVideoError(
            f"{path} cannot be read as a video: {reason}; expected a whole file that FFmpeg reads, "
            "such as MP4 with H.264"
        ) from None
