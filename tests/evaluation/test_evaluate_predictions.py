"""`evaluate --predictions` and the outputs of `evaluate`, on real frames with known figures."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.checkpoints import resume_state, write_checkpoint
from helpers.packing_command import make_shards
from helpers.small_shards import write_small_shards

from md2dist.config import load_config
from md2dist.distributed.world import find_free_port
from md2dist.evaluation.depth_metrics import DepthMetrics
from md2dist.model import MonodepthModel

pytestmark = pytest.mark.slow

COMMAND = Path(__file__).parents[2] / "launch" / "evaluate.py"
DRIVE = "2011_09_26_drive_0005_sync"
NAMES = DepthMetrics._fields


class Real:
    """Shards of the golden frames, with their predictions."""

    def __init__(self, shared, kitti_raw, folder):
        self.golden = np.load(shared / "golden" / "eval_depth_drive0005.npz")
        self.shards = folder / "shards"
        self.predictions = folder / "disps.npy"
        np.save(self.predictions, self.golden["pred_disp"])
        split = folder / "frames.txt"
        lines = (f"2011_09_26/{DRIVE} {frame} l\n" for frame in self.golden["frames"])
        split.write_text("".join(lines))
        words = ["--ground-truth", "velodyne", "--frame-offsets", "--no-stereo"]
        words += ["--height", 64, "--width", 96, "--order", "sequential"]
        place = ["--kitti-root", kitti_raw, "--split", split, "--output", self.shards]
        packed = make_shards(*place, *words)
        assert packed.returncode == 0, packed.stderr


@pytest.fixture(scope="module")
def real(shared, kitti_raw, tmp_path_factory):
    return Real(shared, kitti_raw, tmp_path_factory.mktemp("real"))


def start(*words, **environment):
    return subprocess.Popen(
        [sys.executable, COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def evaluate(*words, world_size=1):
    """Runs the command on some ranks; returns the exit codes, and all that they print."""
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_port())}
    world["WORLD_SIZE"] = str(world_size)
    ranks = [
        start(*words, **(world | {"RANK": str(rank), "LOCAL_RANK": str(rank)}))
        for rank in range(world_size)
    ]
    outputs = [process.communicate(timeout=240) for process in ranks]
    return {process.returncode for process in ranks}, "".join(out + err for out, err in outputs)


def test_saved_disparities_of_real_frames_have_the_figures_of_the_reference(real, tmp_path):
    words = ["--predictions", real.predictions, "--shards", real.shards, "--batch-size", 1]
    for world_size in (1, 2, 3):
        outputs = [tmp_path / f"{world_size}.{suffix}" for suffix in ("json", "csv", "md")]
        words_of_files = [
            "--output",
            *outputs,
            "--per-image",
            tmp_path / f"{world_size}_images.csv",
        ]
        saved = ["--save-disparities", tmp_path / f"{world_size}.npy"]
        codes, said = evaluate(
            *words, "--scaling", 5.4, "--calibrated", "--per-drive", *words_of_files, *saved,
            world_size=world_size,
        )  # fmt: skip
        assert codes == {0}, said
    for name in ("{}.json", "{}.csv", "{}.md", "{}_images.csv", "{}.npy"):
        contents = {(tmp_path / name.format(n)).read_bytes() for n in (1, 2, 3)}
        assert len(contents) == 1, name
    assert len(list(tmp_path.iterdir())) == 15  # and no other file
    np.testing.assert_array_equal(np.load(tmp_path / "3.npy"), real.golden["pred_disp"])
    figures = json.loads((tmp_path / "1.json").read_text())
    expected = real.golden["stereo"]
    found = [figures[name] for name in NAMES]
    np.testing.assert_allclose(found, expected.mean(0), rtol=1e-6)
    nominal, calibrated = figures["tables"]
    assert (nominal["scaling"], calibrated["scaling"]) == (5.4, "calibrated")
    assert nominal["drives"][DRIVE]["abs_rel"] == figures["abs_rel"]
    assert calibrated["abs_rel"] != nominal["abs_rel"]
    rows = list(csv.DictReader((tmp_path / "1_images.csv").open()))
    assert [int(row["frame"]) for row in rows[:4]] == real.golden["frames"].tolist()
    per_image = [[float(row[name]) for name in NAMES] for row in rows]
    np.testing.assert_allclose(per_image[:4], expected, rtol=1e-6)
    assert float(rows[4]["factor"]) == pytest.approx(5.327, abs=1e-3)


def test_depth_in_metres_is_scored_as_it_is_or_by_its_median(real, tmp_path):
    path = tmp_path / "depth.npy"
    np.save(path, 1 / real.golden["pred_disp"].astype(np.float64))
    words = ["--predictions", path, "--shards", real.shards, "--predictions-are", "depth"]
    output = tmp_path / "figures.json"
    codes, said = evaluate(*words, "--scaling", "median", "--output", output)
    assert codes == {0}, said
    figures = json.loads(output.read_text())
    found = [figures[name] for name in NAMES]
    np.testing.assert_allclose(found, real.golden["mono"].mean(0), rtol=1e-6)
    codes, said = evaluate(*words)
    assert codes == {0}
    assert said.startswith("eigen, scaling 1.0, ")


def test_the_worst_images_are_drawn_and_several_folders_are_scored_at_once(real, tmp_path):
    pictures = tmp_path / "pictures"
    words = ["--predictions", real.predictions, "--shards", real.shards, real.shards]
    codes, said = evaluate(
        *words, "--scaling", "median", "--worst", 2, "--pictures", pictures, world_size=2
    )
    assert codes == {0}, said
    worst = np.argsort(-real.golden["mono"][:, 0])[:2]
    keys = [f"{DRIVE}_l_{real.golden['frames'][index]:010d}" for index in worst]
    names = [f"eigen_worst_{number:02d}_{key}.png" for number, key in enumerate(keys, start=1)]
    assert sorted(path.name for path in pictures.iterdir()) == names
    assert len([line for line in said.splitlines() if "0.325" in line]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--scaling median if on video alone"),
        (["--scaling", 5.4, "--flip-postprocess"], "apply to a model"),
        (["--scaling", 5.4, "--worst", 2], "belong together"),
        (["--scaling", 5.4, "--save-disparities", "own.npy"], "own.npy exists"),
        (
            ["--scaling", 5.4, "--output", "figures.txt"],
            "expected a name that ends in .json or .csv or .md",
        ),
        (["--scaling", 5.4, "--predictions-are", "depth", "--calibrated"], "in metres; omit it"),
    ],
)
def test_options_that_do_not_fit_end_with_code_2(real, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.npy").touch()
    place = ["--predictions", real.predictions, "--shards", real.shards]
    codes, said = evaluate(*place, *words)
    assert codes == {2}
    assert message in said
    assert "Traceback" not in said


def test_a_failed_evaluation_leaves_no_file(real, tmp_path):
    disparities = real.golden["pred_disp"].copy()
    disparities[2] = np.nan
    np.save(tmp_path / "nan.npy", disparities)
    words = ["--predictions", tmp_path / "nan.npy", "--shards", real.shards, "--scaling", "median"]
    results = ["--save-disparities", tmp_path / "s.npy", "--output", tmp_path / "o.json"]
    codes, said = evaluate(*words, *results, "--batch-size", 1, world_size=2)
    assert codes == {2}
    assert said.count("error: ") == 1
    assert f"1 of 4 images cannot be evaluated, the first is {DRIVE}_l_0000000036" in said
    assert [path.name for path in tmp_path.iterdir()] == ["nan.npy"]


def test_a_model_trained_on_the_scored_drives_is_reported(real, tmp_path):
    config = load_config(overrides=["data.height=64", "data.width=96"])
    state = resume_state(3, train_split="mine.txt", train_drives=(DRIVE,))
    weights = MonodepthModel.from_config(config).state_dict()
    checkpoint = write_checkpoint(tmp_path, state, weights, config)
    codes, said = evaluate("--checkpoint", checkpoint, "--shards", real.shards)
    assert codes == {0}
    assert said.count("warning: the model was trained on data that it is tested on: mine.txt") == 1
    assert "abs_rel" in said


def test_shuffled_shards_keep_no_disparities(tmp_path):
    shards = write_small_shards(tmp_path / "shards", 3, ground_truth="velodyne")
    (tmp_path / "p").mkdir()
    words = ["--predictions", tmp_path / "p", "--shards", shards, "--scaling", "median"]
    codes, said = evaluate(*words, "--save-disparities", tmp_path / "s.npy")
    assert codes == {2}
    assert "--order sequential" in said
