import errno
import io
import os

import numpy as np
import pytest
from PIL import Image
from prediction.videos import moving_square, write_video

from md2dist.data.recordings.video_reader import VideoReader
from md2dist.data.video import count_frames, read_frames
from md2dist.errors import DamagedVideoError, VideoError

av = pytest.importorskip("av")


@pytest.fixture
def video(tmp_path):
    """A video of flat grey frames, whose values are ten times their numbers."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            pixels = np.full((48, 64, 3), 40 + 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def number_of(image: Image.Image) -> int:
    return round((np.asarray(image).mean() - 40) / 20)


def test_frames_are_counted(video):
    assert count_frames(video) == 8


def test_a_reader_finds_frames_in_any_order(video):
    reader = VideoReader(video)
    for number in (0, 1, 1, 5, 7, 2, 3, 0):
        image = reader.read(number)
        assert number_of(image) == number
        assert image.size == (64, 48)
    with pytest.raises(DamagedVideoError, match="ends after 8 frames; frame 8 is expected"):
        reader.read(8)


def test_frames_behind_damage_are_refused_without_decoding_again(video, monkeypatch):
    decoded = []

    def decode(path):
        for number, frame in enumerate(video_frames):
            if number == 5:
                raise DamagedVideoError(f"{path} is damaged")
            decoded.append(number)
            yield frame

    video_frames = list(read_frames(video))
    monkeypatch.setattr("md2dist.data.recordings.video_reader.read_frames", decode)
    reader = VideoReader(video)
    for number in (4, 5, 6, 7):
        if number == 4:
            assert number_of(reader.read(4)) == 4
        else:
            with pytest.raises(DamagedVideoError, match="is damaged"):
                reader.read(number)
    assert decoded == [0, 1, 2, 3, 4]
    assert number_of(reader.read(3)) == 3


def test_a_video_whose_disk_fails_for_a_moment_is_read_afterwards(video, monkeypatch):
    class FailingFile(io.FileIO):
        def read(self, *_):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    reader = VideoReader(video)
    with monkeypatch.context() as patch:
        patch.setattr("md2dist.data.video.open_regular", FailingFile)
        with pytest.raises(VideoError, match=r"mp4 cannot be read: Input/output error$") as caught:
            reader.read(2)
    assert not isinstance(caught.value, DamagedVideoError)
    assert number_of(reader.read(2)) == 2


def test_a_video_whose_disk_fails_between_two_frames_is_read_afterwards(video, monkeypatch):
    def fail_once(path):
        yield from video_frames[:5]
        monkeypatch.undo()
        raise VideoError(f"{path} cannot be read")

    video_frames = list(read_frames(video))
    monkeypatch.setattr("md2dist.data.recordings.video_reader.read_frames", fail_once)
    reader = VideoReader(video)
    assert number_of(reader.read(4)) == 4
    with pytest.raises(VideoError, match="cannot be read"):
        reader.read(5)
    assert number_of(reader.read(6)) == 6


def test_a_truncated_video_is_refused_before_it_is_packed(tmp_path):
    path = tmp_path / "a.mkv"
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 80, 3), dtype=np.uint8)
    write_video(path, list(noise))
    assert count_frames(path) == 20
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 65 // 100])
    with pytest.raises(DamagedVideoError, match="it is truncated"):
        count_frames(path)


def test_a_file_that_is_no_video_is_refused(tmp_path, video):
    (tmp_path / "text.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    with pytest.raises(DamagedVideoError, match=r"text\.mp4 cannot be read as a video"):
        count_frames(tmp_path / "text.mp4")
    with pytest.raises(VideoError, match=r"none\.mp4 cannot be read: No such file"):
        count_frames(tmp_path / "none.mp4")


def test_a_frame_that_is_not_shown_has_no_number(tmp_path):
    path, hidden = tmp_path / "all.webm", tmp_path / "hidden.webm"
    with av.open(path, "w") as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(moving_square(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(path) as container, av.open(hidden, "w") as other:
        stream = other.add_stream_from_template(container.streams.video[0])
        for number, packet in enumerate(container.demux(video=0)):
            content = bytearray(packet)
            if number == 4:
                content[0] &= ~0x10  # the flag that it is shown
            copy = av.Packet(bytes(content))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.stream, copy.is_keyframe = stream, packet.is_keyframe
            if content:
                other.mux(copy)
    for video, expected in ((path, 10), (hidden, 9)):
        assert count_frames(video) == len(list(read_frames(video))) == expected
