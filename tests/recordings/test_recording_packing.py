"""Packing of folders of frames and of videos: what they give, and what is refused."""

import os
import re
import shutil

import numpy as np
import pytest
from helpers.kitti_tree import BASELINE, CX, CY, DRIVE, FX, HEIGHT, WIDTH, write_kitti_tree
from helpers.packing_command import bytes_of
from PIL import Image
from prediction.videos import moving_square
from prediction.videos import write_video as write_moving_video
from recordings import recorded
from recordings.recorded import write_camera, write_depth, write_frames, write_video

from md2dist.commands import pack
from md2dist.data.inspection.verification import verify_shards
from md2dist.data.shards.dataset import ShardDataset

SMALL = ["--height", 32, "--width", 64]
MONO = ["--no-stereo"]


@pytest.fixture
def run(run_main, tmp_path):
    """Packs `--frames` with further options to tmp_path/out; returns exit code and messages."""

    def run(frames, *options, output="out"):
        words = ["--frames", frames, "--split", "all", "--output", tmp_path / output]
        return run_main(pack.main, *words, *SMALL, *options)

    return run


def lines_in(folder):
    infos = [sample.info for sample in ShardDataset(folder)]
    return [f"{info['drive']} {info['frame']} {info['side']}" for info in infos]


def test_a_folder_gives_the_images_and_cameras_that_kitti_gives(run, run_main, tmp_path):
    write_kitti_tree(tmp_path / "kitti", num_frames=5)
    own = tmp_path / "own"
    for number, name in ((2, "left"), (3, "right")):
        shutil.copytree(tmp_path / "kitti" / DRIVE / f"image_0{number}" / "data", own / name)
    write_camera(
        own, fx=FX, fy=FX, cx=CX, cy=CY, width=WIDTH, height=HEIGHT,
        left="left", right="right", baseline=BASELINE,
    )  # fmt: skip
    assert run(own, "--order", "sequential")[0] == 0
    words = ["--kitti-root", tmp_path / "kitti", "--split", "all", "--output", tmp_path / "theirs"]
    assert run_main(pack.main, *words, *SMALL, "--order", "sequential")[0] == 0
    ours, theirs = ShardDataset(tmp_path / "out"), ShardDataset(tmp_path / "theirs")
    assert lines_in(tmp_path / "out") == [f"own {n} {side}" for n in (1, 2, 3) for side in "lr"]
    for our, their in zip(ours, theirs, strict=True):
        for view in ("0", "-1", "+1", "s"):
            np.testing.assert_array_equal(our.frames[view], their.frames[view])
        for name in ("K", "baseline", "frame", "side", "native_width", "native_height"):
            assert our.info[name] == their.info[name]
    assert verify_shards(tmp_path / "out").faults == []


def test_intrinsics_hold_for_frames_of_another_size(run, tmp_path):
    for name, scale in (("whole", 1), ("half", 2)):
        write_frames(tmp_path / name, size=(recorded.WIDTH // scale, recorded.HEIGHT // scale))
        write_camera(tmp_path / name)
        assert run(tmp_path / name, *MONO, output=f"{name}_out")[0] == 0
    whole, half = (ShardDataset(tmp_path / f"{name}_out")[0] for name in ("whole", "half"))
    assert whole.info["K"] == half.info["K"]
    assert whole.info["K"][0][0] == pytest.approx(80.5 * 64 / recorded.WIDTH)
    assert whole.info["K"][1][2] == pytest.approx((30 + 0.5) * 32 / recorded.HEIGHT - 0.5)
    assert (half.info["native_width"], half.info["baseline"]) == (recorded.WIDTH // 2, 0)


def test_each_folder_is_a_sequence_and_all_may_share_a_camera(run, tmp_path):
    root = tmp_path / "videos"
    write_camera(root)
    for name in ("walk 1", "walk 2", "7"):
        write_frames(root / name)
    larger = ["--height", 64, "--width", 96]
    code, text, _ = run(root, *MONO, *larger, "--order", "sequential", "--hold-out", "walk_2")
    assert code == 0
    assert "split all: 4 samples of 2 sequences (sequence_7, walk_1); left out: 4 frames" in text
    assert "data.height=64 data.width=96 data.use_true_intrinsics=true" in text
    names = [f"{name} {n} l" for name in ("sequence_7", "walk_1") for n in (9, 10)]
    assert lines_in(tmp_path / "out") == names
    assert run(root, *MONO, "--only", "walk_2", output="held")[0] == 0
    assert sorted(lines_in(tmp_path / "held")) == ["walk_2 10 l", "walk_2 9 l"]
    (tmp_path / "lines.txt").write_text("walk_1 10 l\n")
    assert run(root, *MONO, "--split", tmp_path / "lines.txt", output="listed")[0] == 0
    assert lines_in(tmp_path / "listed") == ["walk_1 10 l"]


def test_a_video_gives_the_pixels_of_its_frames(run, tmp_path):
    pytest.importorskip("av")
    write_frames(tmp_path / "frames" / "clip", count=6)
    write_camera(tmp_path / "frames")
    write_camera(tmp_path / "videos")
    paths = sorted((tmp_path / "frames" / "clip").glob("*.png"), key=lambda p: int(p.stem[5:]))
    write_video(tmp_path / "videos" / "clip.mkv", [np.asarray(Image.open(p)) for p in paths])
    options = [*MONO, "--order", "sequential"]
    assert run(tmp_path / "frames", *options)[0] == 0
    assert run(tmp_path / "videos" / "clip.mkv", *options, "--processes", 2, output="film")[0] == 0
    frames, film = ShardDataset(tmp_path / "out"), ShardDataset(tmp_path / "film")
    assert lines_in(tmp_path / "film") == [f"clip {n} l" for n in (1, 2, 3, 4)]
    for one, other in zip(frames, film, strict=True):
        assert one.info["K"] == other.info["K"]
        for view in ("0", "-1", "+1"):
            np.testing.assert_array_equal(one.frames[view], other.frames[view])


@pytest.mark.parametrize("rotation", [90, 270])
def test_a_video_of_a_phone_is_packed_upright(run, tmp_path, rotation):
    frames = [moving_square(number) for number in range(5)]
    upright = [np.rot90(frame, rotation // 90) for frame in frames]
    (height, width), camera = upright[0].shape[:2], {"fx": 80, "fy": 80}
    write_camera(
        tmp_path / "own", width=width, height=height, cx=width / 2, cy=height / 2, **camera
    )
    write_moving_video(tmp_path / "own" / "clip.mp4", frames, rotation=rotation)
    options = [*MONO, "--height", 64, "--width", 32, "--order", "sequential"]
    code, _, message = run(tmp_path / "own", *options)
    assert code == 0, message
    sample = ShardDataset(tmp_path / "out")[0]
    assert (sample.info["native_height"], sample.info["native_width"]) == (height, width)
    expected = Image.fromarray(upright[1]).resize((32, 64), Image.Resampling.LANCZOS)
    found = np.asarray(sample.frames["0"])
    assert np.abs(found.astype(int) - np.asarray(expected)).mean() < 4


def test_a_name_that_is_no_text_is_refused(run, tmp_path):
    write_frames(tmp_path / "own")
    write_camera(tmp_path / "own")
    for path in (tmp_path / "own").glob("frame*.png"):
        path.rename(os.fsdecode(os.fsencode(path).replace(b"frame", b"fr\xe4me")))
    code, _, message = run(tmp_path / "own", *MONO)
    assert code == 2
    assert "is not UTF-8; rename the file" in message


def test_depth_maps_are_packed_as_they_are(run, tmp_path):
    folder = tmp_path / "walk"
    write_frames(folder)
    write_camera(folder, depth="depth")
    write_depth(folder / "depth", [8, 10])
    code, text, _ = run(folder, *MONO, "--ground-truth", "depth", "--frame-offsets")
    assert code == 0
    assert "2 samples" in text
    assert sorted(lines_in(tmp_path / "out")) == ["walk 10 l", "walk 8 l"]
    depth = ShardDataset(tmp_path / "out")[0].ground_truth
    assert (depth[:-1] == 10).all()
    assert (depth[-1] == 0).all()
    assert verify_shards(tmp_path / "out").faults == []


def test_an_interrupted_or_repeated_packing_gives_the_same_bytes(run, tmp_path):
    write_frames(tmp_path / "walk")
    write_camera(tmp_path)
    assert run(tmp_path / "walk", *MONO)[0] == 0
    before = bytes_of(tmp_path / "out")
    os.utime(tmp_path / "walk" / "frame9.png", (1, 1))
    assert "complete and unchanged" in run(tmp_path / "walk", *MONO)[1]
    assert run(tmp_path / "walk", *MONO, "--processes", 2, output="again")[0] == 0
    assert bytes_of(tmp_path / "again") == before


def stereo(folder, count=4, **values):
    write_frames(folder / "right", count)
    write_camera(folder, right="right", **({"baseline": 0.12} | values))


FAULTS = {
    "no camera": (lambda f: (f / "camera.yaml").unlink(), MONO, "has no camera: expected camera"),
    "no frames": (
        lambda f: [path.unlink() for path in f.glob("*.png")], MONO, r"holds no frames \(cam",
    ),
    "gap": (lambda f: (f / "frame10.png").unlink(), MONO, r"between frame9\.png and frame11\.png"),
    "two frames": (
        lambda f: [(f / f"frame{n}.png").unlink() for n in (10, 11)],
        MONO,
        r"walk: none of its 2 images can be packed; .* neighbours -1 \+1 \(>= 3 frames\)",
    ),
    "mixed sizes": (
        lambda f: Image.new("RGB", (192, 128)).save(f / "frame10.png"),
        MONO,
        "differ in size: walk/frame8.png is 96x64, walk/frame10.png is 192x128",
    ),
    "another aspect": (
        lambda f: write_camera(f, width=640, height=480),
        MONO,
        r"walk are 96x64 \(width x height\), but .*camera\.yaml is for 640x480, another aspect",
    ),
    "unreadable": (lambda f: (f / "frame10.png").write_bytes(b"x"), MONO, "frame10.png is broken"),
    "truncated": (
        lambda f: (f / "frame10.png").write_bytes((f / "frame10.png").read_bytes()[:3000]),
        MONO,
        "frame10.png is broken",
    ),
    "no right camera": (lambda f: None, [], r"names no right camera; add .* or pack with --no-st"),
    "fewer right frames": (
        lambda f: stereo(f, count=3), [], r"4 frames of the left camera \(8 to 11\) and 3 frames",
    ),
    "baseline in mm": (lambda f: stereo(f, baseline=120), [], "a baseline of 120 m, expected 0.01"),
    "fractions": (
        lambda f: write_camera(f, fx=0.8, fy=1.2, cx=0.5, cy=0.5), MONO, "fractions of the image",
    ),
    "no depth": (lambda f: None, [*MONO, "--ground-truth", "depth"], "names no depth maps; add"),
    "scans": (lambda f: None, [*MONO, "--ground-truth", "velodyne"], "velodyne is KITTI's"),
    "small depth": (
        lambda f: (write_camera(f, depth="d"), write_depth(f / "d", [9], (48, 32))),
        [*MONO, "--ground-truth", "depth"],
        "depth map walk/d/frame9.png has 48x32 pixels, its frame 96x64",
    ),
    "unknown sequence": (lambda f: None, [*MONO, "--only", "run"], "--only run: no such sequence"),
    "all held out": (lambda f: None, [*MONO, "--hold-out", "walk"], "all has no sequences"),
    "published split": (lambda f: None, ["--split", "eigen_zhou/train"], "or all; the published"),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "options", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_a_recording_is_one_line(run, tmp_path, harm, options, words):
    write_frames(tmp_path / "walk")
    write_camera(tmp_path / "walk")
    harm(tmp_path / "walk")
    code, _, error = run(tmp_path / "walk", *options)
    lines = [line for line in error.splitlines() if line.startswith("error")]
    assert code == 2
    assert len(lines) == 1
    assert re.search(words, lines[0]), lines[0]
    assert not (tmp_path / "out" / "index.json").exists()


def test_a_frame_that_is_broken_can_be_skipped(run, tmp_path):
    write_frames(tmp_path / "walk", count=6)
    write_camera(tmp_path / "walk")
    (tmp_path / "walk" / "frame13.png").write_bytes(b"x")
    assert run(tmp_path / "walk", *MONO, "--skip-bad")[0] == 0
    assert sorted(lines_in(tmp_path / "out")) == ["walk 10 l", "walk 11 l", "walk 9 l"]
