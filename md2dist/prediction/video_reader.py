"""Video reader: frames one by one, upright and in RGB, and key frames spread over the video.

PyAV, the Python library of FFmpeg, is imported when it is needed. A video is one file: FFmpeg opens
no other file, and no address, that is named in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from md2dist.data.image_reader import MAX_PIXELS
from md2dist.errors import VideoError
from md2dist.storage.bounded import open_regular

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_UNSPECIFIED = 2  # colour matrix of a frame; it is BT.709 above the height of standard definition
_STANDARD_HEIGHT = 576
_LIMITED, _FULL = 1, 2  # ranges of values
_UPRIGHT = {  # from degrees counter-clockwise
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
_MISSING_S = 0.5  # at the end of a video, by which it counts as truncated


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

    def to_image(self) -> Image.Image:
        """Converts the frame to RGB, by its own colour matrix and range, and turns it upright."""
        raw = self.raw
        matrix = None
        if raw.colorspace == _UNSPECIFIED:
            matrix = "itu709" if raw.height > _STANDARD_HEIGHT else "itu601"
        image = raw.to_image(
            src_colorspace=matrix,
            src_color_range=raw.color_range or _LIMITED,
            dst_color_range=_FULL,
        )
        turn = round(raw.rotation / 90) * 90 % 360
        return image.transpose(_UPRIGHT[turn]) if turn else image


def read_info(path: Path) -> VideoInfo:
    """Reads what a video states about itself.

    Raises:
        VideoError: if it cannot be read, or has no video stream.
    """
    with _open_stream(path) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        return VideoInfo(rate, stream.time_base or 1 / rate, stream.frames or None)


def read_frames(path: Path) -> Iterator[VideoFrame]:
    """Decodes a video.

    Yields:
        The frames in the order of their times.

    Raises:
        VideoError: if it cannot be read, has no frames, or ends before the end that it states.
    """
    end = Fraction(0)
    num_packets, is_empty = 0, True
    with _open_stream(path) as (container, stream), _explaining_damage(path):
        base = stream.time_base or Fraction(1)
        for packet in container.demux(stream):
            if packet.pts is not None:
                num_packets += 1
                end = max(end, (packet.pts + (packet.duration or 0)) * base)
            for frame in packet.decode():
                is_empty = False
                yield VideoFrame(frame, frame.pts, frame.duration or None)
        if is_empty:
            raise VideoError(f"{path} has no frames")
        stated = _stated_end(container, stream)
        found = None
        if stated is not None and stated - end > max(_MISSING_S, 2 / _rate(stream)):
            found = f"{float(end):.1f} s of {float(stated):.1f} s"
        elif stream.time_base == 1 / _rate(stream) and num_packets < stream.frames:  # AVI
            found = f"{num_packets} of {stream.frames} frames"
        if found:
            raise VideoError(f"{path} ends after {found}: it is truncated; copy it again")


def sample_key_frames(path: Path, most: int) -> list[Image.Image]:
    """Decodes up to `most` key frames that are spread over a video.

    Raises:
        VideoError: if it cannot be read.
    """
    kept: list[VideoFrame] = []
    stride, position = 1, 0
    with _open_stream(path) as (container, stream), _explaining_damage(path):
        stream.codec_context.skip_frame = "NONKEY"
        for packet in container.demux(stream):
            is_wanted = packet.dts is None  # flushes the decoder
            if packet.is_keyframe:
                is_wanted = position % stride == 0
                position += 1
            if not is_wanted:
                continue
            kept += [VideoFrame(frame, frame.pts, None) for frame in packet.decode()]
            if len(kept) >= 2 * most:
                kept, stride = kept[::2], 2 * stride
        step = -(-len(kept) // most) or 1
        return [frame.to_image() for frame in kept[::step]]


def _rate(stream: VideoStream) -> Fraction:
    return stream.average_rate or Fraction(25)


def _stated_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Returns the time in s at which a video ends by its header, None if it is silent."""
    start = (stream.start_time or 0) * (stream.time_base or Fraction(1))
    if stream.duration and stream.time_base:
        return start + stream.duration * stream.time_base
    if tag := stream.metadata.get("DURATION"):  # Matroska
        hours, minutes, seconds = tag.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    if container.duration and len(container.streams) == 1:  # else that of the longest stream
        return start + Fraction(container.duration, 1_000_000)
    return None


@contextmanager
def _open_stream(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    av = import_av()
    try:
        file = open_regular(path)
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror or error}") from None
    with file:
        with _explaining_damage(path):
            container = av.open(file, options={"protocol_whitelist": ""})
        with container:
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


@contextmanager
def _explaining_damage(path: Path) -> Iterator[None]:
    """Raises a `VideoError` for the errors of FFmpeg, which are of many types."""
    av = import_av()
    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise VideoError(
            f"{path} cannot be read as a video: {reason}; expected a whole file that FFmpeg reads, "
            "or a PNG or JPEG image"
        ) from None
