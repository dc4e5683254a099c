"""Own data from frames to figures: packed, verified, trained, predicted and evaluated."""

import json
import sys

import numpy as np
import pytest
from conftest import SMALL, read_metrics, run_command
from PIL import Image

pytestmark = pytest.mark.slow

DRIVE = "2011_09_26_drive_0001_sync"
SHRINK = 3  # 1242x375 divides evenly
CAMERA = """fx: 721.5377
fy: 721.5377
cx: 609.5593
cy: 172.854
width: 1242
height: 375
baseline: 0.5327
left: left
right: right
depth: depth
"""


@pytest.fixture(scope="module")
def recordings(kitti_raw, shared, tmp_path_factory):
    """A stereo recording of real frames in natural numbering, with depth maps."""
    root = tmp_path_factory.mktemp("recordings")
    (root / "camera.yaml").write_text(CAMERA)
    for side, camera in (("left", "image_02"), ("right", "image_03")):
        (root / "street" / side).mkdir(parents=True)
        for path in (kitti_raw / "2011_09_26" / DRIVE / camera / "data").iterdir():
            image = Image.open(path)
            small = image.resize((image.width // SHRINK, image.height // SHRINK))
            small.save(root / "street" / side / f"frame{int(path.stem)}.png")
    (root / "street" / "depth").mkdir()
    depth = next((shared / "kitti" / "data_depth_annotated").rglob(f"{DRIVE}/proj_depth/ground*"))
    for path in (depth / "image_02").iterdir():
        counts = np.asarray(Image.open(path))[1::SHRINK, 1::SHRINK]
        name = f"frame{int(path.stem)}.png"
        Image.fromarray(counts).save(root / "street" / "depth" / name)
    return root


def run(name, *words):
    process = run_command([sys.executable, "-m", f"md2dist.commands.{name}", *words])
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_a_model_is_trained_and_scored_on_frames_and_depth_maps_of_a_folder(recordings, tmp_path):
    train, test, run_dir = (tmp_path / name for name in ("train", "test", "run"))
    common = ["--frames", recordings, "--split", "all", "--height", 64, "--width", 64]
    assert "20 samples" in run("pack", *common, "--output", train)
    options = ["--ground-truth", "depth", "--frame-offsets", "--no-stereo", "--order", "sequential"]
    assert "12 samples" in run("pack", *common, *options, "--output", test)
    for folder in (train, test):
        run("verify", folder)
    words = [f"data.train_shards={train}", f"data.val_shards={test}", f"log.run_dir={run_dir}"]
    words += ["data.use_true_intrinsics=true", "optim.max_steps=20"]
    run("train", "--config", "configs/mono_stereo.yaml", *SMALL, *words)
    assert np.isfinite(list(read_metrics(run_dir).values())).sum() == 20
    image = recordings / "street" / "left" / "frame7.png"
    run("predict", "--checkpoint", run_dir, "--input", image, "--output", tmp_path / "depths")
    assert (tmp_path / "depths" / "frame7_depth.png").is_file()
    figures = tmp_path / "figures.json"
    words = ["--scaling", "median", "--output", figures]
    shown = run("evaluate", "--checkpoint", run_dir, "--shards", test, *words)
    assert "uncropped, scaling median" in shown
    found = json.loads(figures.read_text())
    assert found["protocol"] == "uncropped"
    assert 0 < found["abs_rel"] < 1
