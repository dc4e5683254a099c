"""Video writer: pictures one by one into an H.264 video, with their times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from md2dist.data.video import VideoInfo, import_av, open_video
from md2dist.errors import VideoError

if TYPE_CHECKING:
    import av

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
OTHER_VIDEOS = (".avi", ".flv", ".gif", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")
WIDEST = 3840  # pixels; players' decoders take H.264 up to about this
_MARK = "md2dist"  # comment of the container
_BT709, _LIMITED, _FULL = 1, 1, 2
_OPTIONS = {"crf": "18", "preset": "veryfast"}


def is_marked_video(path: Path) -> bool:
    """Returns whether md2dist wrote a video."""
    import_av()  # its absence says nothing about the video
    try:
        with open_video(path) as (container, _):
            tags = {name.lower(): text for name, text in container.metadata.items()}
            return tags.get("comment") == _MARK
    except VideoError:
        return False


def convert_picture(picture: NDArray[np.uint8]) -> av.VideoFrame:
    """Converts (H, W, 3) to what H.264 stores: BT.709 of limited range, half the colour resolution.

    An odd height or width gets a further white row or column, since both must be even.
    """
    av = import_av()
    rows, columns = (size % 2 for size in picture.shape[:2])
    if rows or columns:
        picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), constant_values=255)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(
        format="yuv420p",
        dst_colorspace="itu709",
        src_color_range=_FULL,
        dst_color_range=_LIMITED,
        threads=1,
    )


class VideoWriter:
    """Writes a video; sound is not written.

    Args:
        file: open for writing.
        container: one of the values of `CONTAINERS`.
        info: rate and time base.
    """

    def __init__(self, file: BinaryIO, container: str, info: VideoInfo):
        self._container = import_av().open(file, "w", format=container)
        self._container.metadata["comment"] = _MARK
        self._info = info
        self._stream = None
        self._start: int | None = None
        self._last, self._num_frames = -1, 0

    def write(self, frame: av.VideoFrame, time: int | None, duration: int | None) -> None:
        """Adds a frame.

        Args:
            frame: of the size of the first one, see `convert_picture`.
            time: in units of the time base, from any start; one that is not later than that of the
                frame before is shown right after it. None: after the duration of the frame before.
            duration: likewise; None: that of the mean rate.

        Raises:
            VideoError: if it has another size.
        """
        if self._stream is None:
            self._stream = self._open_stream(frame)
        context = self._stream.codec_context
        if (frame.width, frame.height) != (context.width, context.height):
            raise VideoError(
                f"frame {self._num_frames} makes a picture of {frame.width}x{frame.height} "
                f"pixels, the first one of {context.width}x{context.height}; expected images of "
                "one size"
            )
        usual = max(1, round(1 / self._info.rate / self._info.time_base))
        if time is None:
            time = self._last + usual if self._num_frames else 0
        else:
            self._start = time if self._start is None else self._start
            time = max(time - self._start, self._last + 1)
        frame.pts, frame.time_base, frame.duration = time, self._info.time_base, duration or usual
        self._last, self._num_frames = time, self._num_frames + 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Completes the video."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def _open_stream(self, frame: av.VideoFrame):
        stream = self._container.add_stream("libx264", rate=self._info.rate, options=_OPTIONS)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = frame.width, frame.height, "yuv420p"
        context.time_base = self._info.time_base
        context.color_range = _LIMITED
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        return stream
