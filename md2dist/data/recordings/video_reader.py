"""Frames of a video by number; in ascending order, each is decoded once."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from md2dist.data.video import VideoFrame, read_frames
from md2dist.errors import DamagedImageError, DamagedVideoError


class VideoReader:
    """Reads frames of a video by number.

    Args:
        path: the video.
    """

    def __init__(self, path: Path):
        self.path = path
        self._frames: Iterator[VideoFrame] = iter(())
        self._next = 0  # number of the frame that the iterator yields next
        self._last: VideoFrame | None = None  # the one before
        self._end: int | None = None  # number of the first frame that cannot be read
        self._fault = ""  # why

    def read(self, number: int) -> Image.Image:
        """Returns a frame as upright RGB.

        Raises:
            VideoError: as `read_frames`.
            DamagedVideoError: if the video ends, or is damaged, before it or there.
        """
        if self._last is None or number < self._next - 1:
            self._frames, self._next, self._last = read_frames(self.path), 0, None
        while self._last is None or self._next <= number:
            if self._end is not None and number >= self._end:
                raise DamagedVideoError(self._fault)
            self._last = self._decode_next(number)
            self._next += 1
        return self._last.to_image()

    def _decode_next(self, wanted: int) -> VideoFrame:
        fault = f"{self.path} ends after {self._next} frames; frame {wanted} is expected"
        self._last = None  # after an error, the next call opens the video again
        try:
            frame = next(self._frames, None)
        except DamagedImageError as error:
            frame, fault = None, str(error)
        if frame is None:
            self._end, self._fault = self._next, fault
            raise DamagedVideoError(fault)
        return frame
