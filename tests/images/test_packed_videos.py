import numpy as np
import pytest
from PIL import Image

from md2dist.data.video import VideoReader, count_frames, read_frames
from md2dist.errors import DamagedImageError, ImageError

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


def test_frames_are_counted_and_come_in_order(video):
    images = list(read_frames(video))
    assert count_frames(video) == len(images) == 8
    assert [number_of(image) for image in images] == list(range(8))
    assert {image.size for image in images} == {(64, 48)}


def test_a_reader_finds_frames_in_any_order(video):
    reader = VideoReader(video)
    for number in (0, 1, 1, 5, 7, 2, 3, 0):
        assert number_of(reader.read(number)) == number
    with pytest.raises(DamagedImageError, match="ends after 8 frames; frame 8 is expected"):
        reader.read(8)


def test_a_file_that_is_no_video_is_refused(tmp_path, video):
    (tmp_path / "text.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    with pytest.raises(DamagedImageError, match=r"text\.mp4 cannot be decoded"):
        count_frames(tmp_path / "text.mp4")
    with pytest.raises(ImageError, match=r"none\.mp4 cannot be read: No such file"):
        list(read_frames(tmp_path / "none.mp4"))
