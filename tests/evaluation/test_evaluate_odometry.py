import itertools
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.kitti_tree import DRIVE
from helpers.odometry_tree import SEQUENCE, write_odometry_tree
from helpers.packing_command import make_shards
from oxts import read_camera_poses
from paths import motions_of
from PIL import Image

from md2dist.commands.evaluate_odometry import main
from md2dist.config import load_config
from md2dist.data.kitti.poses import format_poses, read_poses
from md2dist.data.shards.dataset import ShardDataset
from md2dist.evaluation.odometry import evaluate_odometry
from md2dist.evaluation.sequence import find_frames, predict_motions
from md2dist.model import MonodepthModel
from md2dist.prediction.predictor import motion_predictor
from md2dist.weights import export_published, load_model

pytestmark = pytest.mark.slow

COMMAND = Path(__file__).parents[2] / "launch" / "evaluate_odometry.py"
PACKING = ["--height", 64, "--width", 96, "--frame-offsets", 1, "--no-stereo"]


def export(folder, *settings):
    torch.manual_seed(0)
    config = load_config(overrides=["data.height=64", "data.width=96", *settings])
    export_published(MonodepthModel.from_config(config), folder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Published files of a model trained on video, as far as the settings say."""
    return export(tmp_path_factory.mktemp("mono"), "data.use_stereo=false")


def pack(root, lines, output, *options):
    """Packs lines of a split."""
    (output.parent / "lines.txt").write_text("\n".join(lines))
    paths = ["--kitti-root", root, "--split", output.parent / "lines.txt", "--output", output]
    packed = make_shards(*paths, *PACKING, *options)
    assert packed.returncode == 0, packed.stderr
    return packed.stdout


@pytest.fixture(scope="module")
def sequence(kitti_raw, tmp_path_factory):
    """Drive 0005 as sequence 09: its shards, and its poses from the navigation unit."""
    root = tmp_path_factory.mktemp("sequence")
    write_odometry_tree(kitti_raw, root / "dataset")
    lines = [f"9 {frame} l" for frame in range(153)]
    said = pack(root, lines, root / "shards", "--order", "sequential")
    assert "next: md2dist evaluate-odometry --checkpoint RUN --shards" in said
    pack(root, lines[:3], root / "short", "--order", "sequential")
    (root / "dataset" / "poses").mkdir()
    poses = read_camera_poses(kitti_raw / DRIVE)
    (root / "dataset" / "poses" / f"{SEQUENCE}.txt").write_text(format_poses(poses))
    (root / "short.txt").write_text(format_poses(poses[:4]))
    return root


@pytest.fixture
def run(run_main):
    return partial(run_main, main)


def test_real_frames_with_their_own_poses_give_the_figures_of_the_library(
    sequence, weights, tmp_path
):
    shards, poses = sequence / "shards", sequence / "dataset" / "poses" / "09.txt"
    names = {"output": "figures.json", "trajectory": "09.txt", "plot": "plots/path.png"}
    files = {name: tmp_path / "results" / file for name, file in names.items()}
    outputs = [word for name, path in files.items() for word in (f"--{name}", path)]
    words = ["--checkpoint", weights, "--shards", shards, "--poses", sequence, *outputs]
    command = [sys.executable, COMMAND, *words, "--cache-dir", tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    dataset = ShardDataset(shards)
    motions = predict_motions(motion_predictor(load_model(weights)), dataset, find_frames(dataset))
    expected = evaluate_odometry(motions, read_poses(poses, "09"))
    heading = "sequence 09, left camera, frames 0 to 153, scaling fit, fp32"
    assert done.stdout.splitlines()[0] == f"{heading}, {weights}"
    assert "| 154 | 69.4 |" in done.stdout
    assert done.stdout.endswith("No t_rel and r_rel: the path has no segment of 100 m.\n")
    figures = json.loads(files["output"].read_text())
    about = {"drive": "09", "side": "l", "first_frame": 0, "last_frame": 153, "scaling": "fit"}
    about |= {"dtype": "fp32", "checkpoint": str(weights), "checkpoint_folder": weights.name}
    about |= {"step": None, "shards": str(shards), "shard_digest": dataset.manifest.digest}
    assert figures.items() >= (about | {"poses": str(sequence)}).items()
    report = expected.report.as_dict()
    assert figures.keys() == about.keys() | {"poses"} | report.keys()
    for name in ("snippet_ate_mean", "ate_sim3", "ate_scale", "fitted_scale", "path_length"):
        assert figures[name] == pytest.approx(report[name], rel=1e-3)
    np.testing.assert_allclose(
        read_poses(files["trajectory"], "09"), expected.predicted[:, :3], atol=1e-2
    )
    with Image.open(files["plot"]) as plot:
        assert plot.size == (1200, 1200)


def test_the_poses_of_the_tests_agree_with_the_speed_that_the_navigation_unit_measures(kitti_raw):
    poses = read_camera_poses(kitti_raw / DRIVE)
    records = sorted((kitti_raw / DRIVE / "oxts" / "data").glob("*.txt"))
    speeds = np.array([np.loadtxt(path)[8] for path in records])  # ahead, m/s; ten frames a second
    steps = np.linalg.inv(poses[:-1]) @ poses[1:]
    expected = (speeds[:-1] + speeds[1:]) / 20
    np.testing.assert_allclose(steps[:, 2, 3], expected, atol=0.08)
    assert np.abs(steps[:, 1, 3]).max() < 0.06
    assert steps[:, 2, 3].sum() == pytest.approx(expected.sum(), rel=0.01)


def test_a_model_that_saw_the_true_motions_has_no_error(sequence):
    dataset, poses = ShardDataset(sequence / "shards"), read_poses(sequence / "dataset", "09")
    full = np.tile(np.eye(4), (154, 1, 1))
    full[:, :3] = poses
    true = torch.from_numpy(motions_of(full))
    true[:, :3, 3] *= 0.1
    true, pairs = iter(true), []

    def predict(first, second):
        pairs.extend(zip(first, second, strict=True))
        assert first.shape == second.shape == (len(first), 64, 96, 3)
        assert first.dtype == torch.uint8
        return torch.stack([next(true) for _ in first])

    motions = predict_motions(predict, dataset, find_frames(dataset), batch_size=10)
    report = evaluate_odometry(motions, poses).report
    assert report.fitted_scale == pytest.approx(10)
    np.testing.assert_allclose([report.snippet_ate_mean, report.ate_sim3], 0, atol=1e-6)
    for (_, second), (first, _) in itertools.pairwise(pairs):
        np.testing.assert_array_equal(second, first)


def test_the_pose_network_gets_both_frames_in_temporal_order(weights):
    model = load_model(weights)
    frames = torch.randint(0, 256, (2, 3, 64, 96, 3), dtype=torch.uint8)
    images = frames.permute(0, 1, 4, 2, 3) / 255
    torch.testing.assert_close(
        motion_predictor(model)(*frames), model.predict_transform(*images), rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize(
    ("options", "scaling"), [([], 5.4), (["--scaling", "2.5"], 2.5), (["--scaling", "fit"], "fit")]
)
def test_a_stereo_model_is_scaled_by_its_known_factor(sequence, tmp_path, run, options, scaling):
    both = export(tmp_path / "both", "data.use_stereo=true", "data.frame_offsets=[-1,1]")
    words = ["--checkpoint", both, "--shards", sequence / "short", "--output", tmp_path / "f.json"]
    code, _, err = run(*words, "--poses", sequence / "short.txt", *options)
    assert code == 0, err
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["scaling"] == scaling
    assert figures["scale"] == (figures["fitted_scale"] if scaling == "fit" else scaling)


def write_poses(folder, name, edit):
    """The true poses with an edit of their lines."""
    lines = (folder / "dataset" / "poses" / "09.txt").read_text().splitlines(keepends=True)
    (folder / name).write_text("".join(edit(lines)))
    return folder / name


SUFFIXES = {"--output": ".json", "--trajectory": ".txt", "--plot": ".png"}


@pytest.mark.parametrize("option", SUFFIXES)
def test_only_results_are_replaced(sequence, weights, tmp_path, run, option):
    """The true poses of KITTI have fewer digits than a trajectory of ours."""
    poses, output = read_poses(sequence / "short.txt", "09"), tmp_path / f"09{SUFFIXES[option]}"
    rows = [" ".join(f"{value:e}" for value in row) for row in poses.reshape(4, 12)]
    output.write_text("\n".join(rows))
    before = output.read_bytes()
    words = ["--checkpoint", weights, "--shards", sequence / "short", "--poses", output]
    code, _, err = run(*words, option, output)
    assert (code, output.read_bytes()) == (2, before)
    assert f"{output} exists" in err
    words[-1] = sequence / "short.txt"
    assert run(*words, option, output, "--overwrite")[0] == 0
    assert run(*words, option, output)[0] == 0  # its own result


def check_refused(done, message, outputs):
    code, out, err = done
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert list(outputs.iterdir()) == []


def outputs_in(folder):
    return [f"{option}={folder / 'new'}{suffix}" for option, suffix in SUFFIXES.items()]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: lines[:-1], "has 3 poses, but the shards hold sequence 09, left camera"),
        (lambda lines: [*lines, lines[0]], "has 5 poses"),
        (lambda lines: [], "has no poses"),
        (lambda lines: [*lines[:2], "a b c\n"], "line 3: 'a b c'"),
        (lambda lines: [*lines[:2], "nan" + lines[2][15:]], "line 3 has a number"),
        (None, "has no poses 09.txt"),
    ],
)
def test_poses_that_do_not_fit_end_with_code_2_one_line_and_no_file(
    sequence, weights, tmp_path, run, edit, message
):
    poses = tmp_path / "poses"
    poses.mkdir()
    if edit:
        lines = (sequence / "short.txt").read_text().splitlines(keepends=True)
        poses = tmp_path / "edited.txt"
        poses.write_text("".join(edit(lines)))
    words = ["--checkpoint", weights, "--shards", sequence / "short", "--poses", poses]
    done = run(*words, *outputs_in(tmp_path / "new"))
    check_refused(done, message, tmp_path / "new")


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["9 0 l", "9 1 l"], [], "shuffled order; expected a whole sequence"),
        (["9 0 l", "9 2 l"], ["--order", "sequential"], "from 09 0 l to 09 2 l, which are not"),
        (["9 0 l", "9 1 r"], ["--order", "sequential"], "from 09 0 l to 09 1 r, which are not"),
        (["9 1 l", "9 0 l"], ["--order", "sequential"], "from 09 1 l to 09 0 l, which are not"),
        (["9 0 l", "9 2 l", "9 1 l", "9 3 l"], ["--order", "sequential"], "frame 1 of 09 should"),
        (["9 1 l"], ["--order", "sequential", "--frame-offsets", "-1"], "lacks the next frame"),
        (["9 1 l"], ["--order", "sequential", "--frame-offsets"], "lacks the next frame"),
        (["9 0 l"], ["--order", "sequential", "--height", "32"], "32x96"),
    ],
)
def test_shards_that_are_no_sequence_end_with_code_2_one_line_and_no_file(
    sequence, weights, tmp_path, run, lines, options, message
):
    pack(sequence, lines, tmp_path / "shards", *options)
    last = max(int(line.split()[1]) for line in lines)
    poses = (sequence / "dataset" / "poses" / "09.txt").read_text().splitlines(keepends=True)
    (tmp_path / "09.txt").write_text("".join(poses[: last + 2]))
    words = ["--checkpoint", weights, "--shards", tmp_path / "shards", "--poses", tmp_path]
    done = run(*words, *outputs_in(tmp_path / "new"))
    check_refused(done, message, tmp_path / "new")


def test_a_model_without_a_pose_network_ends_with_code_2_one_line_and_no_file(
    sequence, tmp_path, run
):
    stereo = export(tmp_path / "stereo", "data.use_stereo=true", "data.frame_offsets=[]")
    words = ["--checkpoint", stereo, "--shards", sequence / "shards", "--poses", sequence]
    done = run(*words, *outputs_in(tmp_path / "new"))
    check_refused(done, "this model predicts no motion", tmp_path / "new")


def test_a_model_with_motions_that_are_not_finite_ends_with_code_2_one_line_and_no_file(
    sequence, weights, tmp_path, run, monkeypatch
):
    nowhere = torch.full((4, 4), torch.nan)
    monkeypatch.setattr(
        MonodepthModel, "predict_transform", lambda self, first, second: nowhere[None]
    )
    words = ["--checkpoint", weights, "--shards", sequence / "shards", "--poses", sequence]
    done = run(*words, *outputs_in(tmp_path / "new"))
    check_refused(done, "motions that are not finite, first near frame 0", tmp_path / "new")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scaling", "mean"], "expected auto, fit or a positive number"),
        (["--batch-size", "0"], "batch size 0"),
        (["--plot", "p.jpg"], "p.jpg: expected a name that ends in .png"),
        (["--output", "figures.md"], "figures.md: expected a name that ends in .json"),
        (["--trajectory", "09.npy"], "09.npy: expected a name that ends in .txt"),
        (["--plot", "."], ". is a folder"),
        (["--trajectory", "s3://bucket/09.txt"], "is an address"),
    ],
)
def test_bad_options_end_with_code_2_and_the_remedy(sequence, weights, run, options, message):
    words = ["--checkpoint", weights, "--shards", sequence / "short"]
    code, _, err = run(*words, "--poses", sequence / "short.txt", *options)
    assert code == 2
    assert message in err
