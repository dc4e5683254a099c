"""Videos are read whole, upright and in their colours, or refused in one line."""

import sys

import numpy as np
import pytest
from prediction.videos import moving_square, write_video

from md2dist.data.video import read_frames, read_info, sample_key_frames
from md2dist.errors import VideoError

SQUARES = [moving_square(number) for number in range(20)]
COLOURS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128]], np.uint8
)
STRIPES = np.repeat(np.repeat(COLOURS[None], 32, 0), 16, 1)


def images_of(path):
    return [np.asarray(frame.to_image()) for frame in read_frames(path)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi", "ts"])
def test_every_frame_of_any_container_is_read_in_order(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_video(path, SQUARES)
    found = images_of(path)
    assert len(found) == 20
    for image, expected in zip(found, SQUARES, strict=True):
        assert np.abs(image.astype(int) - expected).max() <= 12
    assert read_info(path).rate == 10


@pytest.mark.parametrize("is_full_range", [False, True])
@pytest.mark.parametrize("matrix", ["itu709", "itu601", ""])
def test_colours_follow_the_matrix_and_the_range_of_the_video(tmp_path, matrix, is_full_range):
    path = tmp_path / "a.mkv"
    write_video(path, [STRIPES], matrix=matrix, is_full_range=is_full_range)
    [image] = images_of(path)
    assert np.abs(image[16, 8::16].astype(int) - COLOURS).max() <= 3


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_are_turned_upright_as_a_phone_says(tmp_path, rotation):
    path = tmp_path / "a.mp4"
    write_video(path, SQUARES[:3], rotation=rotation)
    for image in (images_of(path)[2], np.asarray(next(sample_key_frames(path, 4)))):
        expected = np.rot90(SQUARES[0], rotation // 90)
        assert image.shape == expected.shape
    expected = np.rot90(SQUARES[2], rotation // 90)
    assert np.abs(images_of(path)[2].astype(int) - expected).max() <= 12


def test_key_frames_are_spread_over_the_video(tmp_path):
    path = tmp_path / "a.mp4"
    levels = [np.full((32, 32, 3), 10 * n, np.uint8) for n in range(24)]
    write_video(path, levels)
    keys = [10 * n for n, frame in enumerate(read_frames(path)) if frame.raw.key_frame]
    assert len(keys) in (3, 4)
    for most, expected in ((32, keys), (2, keys[::2]), (1, keys[:1])):
        found = [np.asarray(image).mean() for image in sample_key_frames(path, most)]
        np.testing.assert_allclose(found, expected, atol=2)


FAST_START = {"movflags": "faststart"}


@pytest.mark.parametrize(
    ("suffix", "options", "message"),
    [
        ("mp4", {}, "cannot be read as a video: Invalid data"),
        ("mp4", FAST_START, r"a\.mp4 ends after 1\.\d s of 2\.0 s: it is truncated"),
        ("mkv", {}, r"a\.mkv ends after 1\.\d s of 2\.0 s: it is truncated"),
        ("avi", {}, r"a\.avi ends after 1\d of 20 frames: it is truncated"),
    ],
)
def test_a_truncated_video_is_refused(tmp_path, suffix, options, message):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 80, 3), dtype=np.uint8)
    write_video(path, list(noise), container_options=options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 65 // 100])
    with pytest.raises(VideoError, match=message):
        list(read_frames(path))


def test_what_is_no_video_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    for content in (b"", b"hello world " * 100):
        path.write_bytes(content)
        with pytest.raises(VideoError, match=r"a\.mp4 cannot be read as a video"):
            read_info(path)
    with pytest.raises(VideoError, match="cannot be read: No such file"):
        read_info(tmp_path / "nowhere.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        read_info("/dev/zero")


def test_sound_alone_is_no_video(tmp_path):
    import av

    path = tmp_path / "a.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"a\.mkv has no video stream; expected a video"):
        read_info(path)


def test_a_container_opens_no_other_file(tmp_path):
    write_video(tmp_path / "a.ts", SQUARES)
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nPLACE\n#EXT-X-ENDLIST\n"
    for name, text in (("x.m3u8", playlist), ("x.txt", "ffconcat version 1.0\nfile PLACE\n")):
        path = tmp_path / name
        path.write_text(text.replace("PLACE", str(tmp_path / "a.ts")))
        with pytest.raises(VideoError, match="cannot be read as a video"):
            list(read_frames(path))


def test_without_the_library_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r"-e \"\.\[video\]\""):
        read_info(tmp_path / "a.mp4")
