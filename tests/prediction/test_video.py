"""The command on videos: into folders and videos, from images, and what it refuses."""

import io
import sys

import numpy as np
import pytest
from helpers.image_bytes import random_image
from PIL import Image
from test_finite_results import make_model
from videos import moving_square, read_video, save_images, write_video

from md2dist.commands.predict import main
from md2dist.prediction import video_prediction
from md2dist.prediction.clips import find_bounds, video_clip
from md2dist.prediction.colour_maps import colour_disparity
from md2dist.weights import export_published

HEIGHT, WIDTH = 48, 80
SQUARES = [moving_square(number) for number in range(12)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    export_published(make_model(), folder)
    return folder


@pytest.fixture
def predict(weights, run_main, tmp_path):
    """Runs the command; returns its exit code, and what it prints."""

    def run(source, output, *words):
        paths = ["--input", tmp_path / source, "--output", tmp_path / output]
        return run_main(main, "--checkpoint", weights, *paths, *words)

    return run


def test_a_video_becomes_a_video_of_input_beside_disparity_at_its_own_times(predict, tmp_path):
    times = [9000 * n for n in range(6)] + [9000 * n + 20000 for n in range(6, 12)]
    write_video(tmp_path / "a.mp4", SQUARES, times=times)
    code, out, _ = predict("a.mp4", "depth.mp4", "--batch-size", 5)
    assert code == 0
    assert out.splitlines()[-1] == str(tmp_path / "depth.mp4")
    frames, found, kinds = read_video(tmp_path / "depth.mp4")
    assert kinds == ["video"]
    np.testing.assert_allclose(found, np.array(times) / 90000, atol=1e-4)
    assert all(frame.shape[1] == 2 * WIDTH and frame.shape[0] % 2 == 0 for frame in frames)
    for frame, expected in zip(frames, SQUARES, strict=True):  # chroma has half the resolution
        difference = np.abs(frame[:HEIGHT, :WIDTH].astype(int) - expected)
        assert difference.mean() < 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "depth.mp4"]


def test_the_colours_of_a_video_mean_the_same_in_all_frames(predict, tmp_path):
    levels = [np.full((HEIGHT, WIDTH, 3), 20 * n, np.uint8) for n in range(12)]
    write_video(tmp_path / "a.mkv", levels)
    assert predict("a.mkv", "out", "--disparity")[0] == 0
    bounds = find_bounds(make_model(), video_clip(tmp_path / "a.mkv"))
    for number in range(12):
        start = tmp_path / "out" / f"a_{number:06d}"
        disparity = np.load(f"{start}_disparity.npy")
        assert disparity.shape == (HEIGHT, WIDTH)
        coloured = np.array(Image.open(f"{start}_disparity.png"))
        difference = np.abs(coloured.astype(int) - colour_disparity(disparity, bounds))
        assert difference.max() <= 2
    assert len(list((tmp_path / "out").iterdir())) == 4 * 12


@pytest.mark.parametrize("rotation", [90, 180])
def test_the_frames_of_a_phone_are_predicted_upright(predict, tmp_path, rotation):
    write_video(tmp_path / "a.mp4", SQUARES, rotation=rotation)
    assert predict("a.mp4", "depth.mp4")[0] == 0
    frames, *_ = read_video(tmp_path / "depth.mp4")
    expected = np.rot90(SQUARES[11], rotation // 90)
    height, width = expected.shape[:2]
    found = frames[11][:height, :width]
    assert frames[11].shape[1] == 2 * width
    assert np.abs(found.astype(int) - expected).mean() < 6


def test_images_become_a_video_with_the_given_rate(predict, tmp_path):
    save_images(tmp_path / "images", [square[:-1, :-1] for square in SQUARES])  # odd sizes
    for words, rate in ((["--fps", "25"], 25), ([], 10)):
        assert predict("images", "depth.mkv", *words)[0] == 0
        frames, times, _ = read_video(tmp_path / "depth.mkv")
        np.testing.assert_allclose(times, np.arange(12) / rate, atol=1e-3)
        assert frames[0].shape[1] == 2 * (WIDTH - 1)
        picture = frames[3][: HEIGHT - 1, : WIDTH - 1].astype(int)
        assert np.abs(picture - SQUARES[3][:-1, :-1]).mean() < 6


def test_wide_frames_are_reduced_for_players(predict, tmp_path, monkeypatch):
    monkeypatch.setattr(video_prediction, "WIDEST", 100)
    write_video(tmp_path / "a.mp4", SQUARES[:2])
    assert predict("a.mp4", "depth.mp4")[0] == 0
    assert read_video(tmp_path / "depth.mp4")[0][0].shape[1] == 100


def assert_refused(outcome, folder, message, names):
    code, _, error = outcome
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_a_damaged_video_leaves_nothing_under_the_final_name(predict, tmp_path):
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (20, HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_video(path, list(noise), container_options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 65 // 100])
    assert_refused(predict("a.mp4", "b.mp4"), tmp_path, "it is truncated", ["a.mp4"])
    path.write_bytes(b"")
    assert_refused(predict("a.mp4", "b.mp4"), tmp_path, "cannot be read as a video", ["a.mp4"])
    assert_refused(predict("a.mp4", "out"), tmp_path, "cannot be read as a video", ["a.mp4"])


def test_images_of_a_video_have_one_size_and_can_all_be_read(predict, tmp_path):
    save_images(tmp_path / "images", SQUARES[:3])
    random_image(30, 30).save(tmp_path / "images" / "x.png")
    message = "frame 3 makes a picture of 60x"
    assert_refused(predict("images", "b.mp4"), tmp_path, message, ["images"])
    (tmp_path / "images" / "x.png").write_bytes(b"no image")
    message = "x.png cannot be read as an image"
    assert_refused(predict("images", "b.mp4"), tmp_path, message, ["images"])


@pytest.mark.parametrize(
    ("output", "words", "message"),
    [
        ("b.webm", [], "expected a folder, or a video with the suffix .mp4, .m4v, .mov, .mkv"),
        ("b.mp4", ["--disparity"], "--disparity needs a folder as --output, not a video"),
        ("b.mp4", ["--format", "npy"], "--format npy needs a folder as --output"),
        ("b.mp4", ["--fps", "5"], "--fps is for a video that is made of images"),
        ("out", ["--fps", "5"], "--fps is for a video that is made of images"),
        ("b.mp4", ["--fps", "0"], "--fps 0: expected > 0"),
        ("b.mp4", ["--batch-size", "0"], "--batch-size 0: expected >= 1"),
        ("a.mp4", [], "a.mp4 is the input itself; name another file"),
        ("c.mp4", [], "c.mp4 exists, and is not such a result of md2dist"),
    ],
)
def test_options_that_do_not_fit_are_refused(predict, tmp_path, output, words, message):
    write_video(tmp_path / "a.mp4", SQUARES[:2])
    write_video(tmp_path / "c.mp4", SQUARES[:2])
    assert_refused(predict("a.mp4", output, *words), tmp_path, message, ["a.mp4", "c.mp4"])


def test_a_result_is_replaced_and_a_foreign_file_only_on_request(predict, tmp_path):
    write_video(tmp_path / "a.mp4", SQUARES[:2])
    for _ in range(2):
        assert predict("a.mp4", "b.mp4")[0] == 0
        assert predict("a.mp4", "out", "--no-pictures")[0] == 0
    foreign = tmp_path / "out" / "a_000001_depth.png"
    foreign.write_bytes(b"mine")
    code, _, error = predict("a.mp4", "out")
    assert (code, foreign.read_bytes()) == (2, b"mine")
    assert "a_000001_depth.png exists, and is not a prediction" in error
    assert predict("a.mp4", "out", "--overwrite")[0] == 0


def test_an_interrupt_leaves_no_video(predict, tmp_path, monkeypatch):
    def interrupt(picture):
        raise KeyboardInterrupt

    write_video(tmp_path / "a.mp4", SQUARES)
    monkeypatch.setattr(video_prediction.VideoWriter, "write", lambda *_: interrupt(None))
    assert predict("a.mp4", "b.mp4")[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_without_the_library_a_video_is_refused_and_images_are_not(predict, tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", SQUARES[:1])
    random_image().save(tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    message, names = '-e ".[video]"', ["a.mp4", "x.png"]
    assert_refused(predict("a.mp4", "out"), tmp_path, message, names)
    assert_refused(predict("x.png", "b.mp4"), tmp_path, message, names)
    assert predict("x.png", "out")[0] == 0
