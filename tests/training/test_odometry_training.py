"""Training on sequences of KITTI odometry, and the evaluation of the motion that it learns."""

import json
from functools import partial

import numpy as np
import pytest
from helpers.connected_ranks import run_ranks
from helpers.odometry_tree import SEQUENCE, write_odometry_tree
from helpers.packing_command import make_shards
from test_loop import train_in_turn

from md2dist.commands.evaluate_odometry import main
from md2dist.data.kitti.poses import format_poses
from md2dist.weights import find_model, find_training_data


def pack(root, name, lines, *options):
    """Packs lines of a split of odometry as a user does."""
    (root / f"{name}.txt").write_text("\n".join(lines))
    words = ["--kitti-root", root / "dataset", "--split", root / f"{name}.txt"]
    words += ["--output", root / name, "--height", 64, "--width", 96]
    packed = make_shards(*words, *options)
    assert packed.returncode == 0, packed.stderr
    return root / name


@pytest.mark.slow
def test_models_trained_on_a_sequence_are_evaluated_along_one(kitti_raw, tmp_path, run_main):
    write_odometry_tree(kitti_raw, tmp_path / "dataset")
    lines = [f"9 {frame} {side}" for frame in range(20, 23) for side in "lr"]
    train = pack(tmp_path, "train", lines, "--stereo")
    lines = [f"9 {frame} l" for frame in range(5)]
    options = ["--order", "sequential", "--no-stereo", "--frame-offsets", 1]
    test = pack(tmp_path, "test", lines, *options)
    ahead = np.tile(np.eye(4), (6, 1, 1))
    ahead[:, 2, 3] = np.arange(6)
    (tmp_path / "poses.txt").write_text(format_poses(ahead))
    common = [
        *(f"data.train_shards={train}", "data.height=64", "data.width=96", "data.num_workers=0"),
        *("network.weights=scratch", "optim.micro_batch_size=3", "optim.max_steps=2"),
        *("log.wandb_mode=disabled", "log.every_steps=1", "precision.dtype=fp32"),
    ]
    starts = {
        name: [*common, f"log.run_dir={tmp_path / name}", f"data.use_stereo={use_stereo}"]
        for name, use_stereo in (("mono", "false"), ("both", "true"))
    }
    (results,) = run_ranks(partial(train_in_turn, list(starts.values())), 1)
    assert [is_finished for is_finished, _ in results] == [True, True]
    for name, scaling in (("mono", "fit"), ("both", 5.4)):
        run, output = tmp_path / name, tmp_path / f"{name}.json"
        losses = [json.loads(line)["train/loss"] for line in (run / "metrics.jsonl").open()]
        assert len(losses) == 2
        assert np.isfinite(losses).all()
        assert find_training_data(find_model(run)[0]).drives == (SEQUENCE,)
        words = ["--checkpoint", run, "--shards", test, "--poses", tmp_path / "poses.txt"]
        code, out, err = run_main(main, *words, "--output", output)
        assert code == 0, err
        assert out.startswith(f"sequence {SEQUENCE}, left camera, frames 0 to 5, scaling {scaling}")
        figures = json.loads(output.read_text())
        assert (figures["drive"], figures["step"]) == (SEQUENCE, 2)
        assert 0 < figures["snippet_ate_mean"] < 1
