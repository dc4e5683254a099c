"""Files that claim gigabytes are refused or read within 2 GiB and a minute of CPU time."""

import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from helpers.checkpoints import resume_state, write_checkpoint
from helpers.damaged_shards import KEYS, change_member
from helpers.image_bytes import png_of
from helpers.kitti_tree import DATE, DRIVE, write_annotated, write_archives, write_kitti_tree
from helpers.small_shards import write_small_shards

from md2dist.config import dump_config, load_config
from md2dist.runs.checkpoint_manifest import write_manifest

pytestmark = pytest.mark.slow

LIMIT = 2 << 30  # bytes
IMAGE = f"{DRIVE}/image_02/data/0000000001.png"
SCAN = f"{DRIVE}/velodyne_points/data/0000000001.bin"
CALIBRATION = f"{DATE}/calib_cam_to_cam.txt"
ANNOTATED = f"{DRIVE.partition('/')[2]}/proj_depth/groundtruth/image_02/0000000001.png"
PROGRAM = """
import resource, sys
from pathlib import Path
from md2dist.errors import Md2distError
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
action, folder, ground_truth = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

def pack():
    from md2dist.data.kitti.source import KittiSource
    from md2dist.data.kitti.roots import open_kitti
    from md2dist.data.kitti.splits import SplitLine
    from md2dist.data.packing.plan import plan_samples
    from md2dist.data.packing.writer import pack_shards
    from md2dist.data.shards.recipe import Recipe
    recipe = Recipe("small", 32, 96, (), use_stereo=False, ground_truth=ground_truth)
    line = SplitLine("DRIVE", 1, "l")
    source = KittiSource(open_kitti(folder))
    pack_shards(plan_samples(source, [line], recipe), folder.parent / "out")

def read():
    from md2dist.data.inspection.verification import verify_shards
    from md2dist.data.shards.dataset import ShardDataset
    verify_shards(folder)
    ShardDataset(folder)[4]

def load():
    from md2dist.weights import load_model
    load_model(folder)

def predict():
    from md2dist.config import load_config
    from md2dist.model import MonodepthModel
    from md2dist.prediction.predictor import predict_files
    settings = ["data.height=64", "data.width=96"]
    model = MonodepthModel.from_config(load_config(overrides=settings)).eval()
    list(predict_files(model, [folder], folder.parent))

try:
    globals()[action]()
    print("done")
except Md2distError as error:
    print(error)
print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
""".replace("DRIVE", DRIVE)


def peak_of(action, path, ground_truth="none"):
    """Runs an action in a process of its own; returns its error, or done, and its peak memory."""
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, action, path, ground_truth],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr
    message, num_bytes = process.stdout.splitlines()
    assert int(num_bytes) <= LIMIT
    return message


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
    return write_small_shards(folder, frame_offsets=(), use_stereo=False, ground_truth="velodyne")


@pytest.fixture
def kitti(tmp_path):
    write_kitti_tree(tmp_path / "kitti", 3, use_scans=True)
    write_annotated(tmp_path / "kitti", 3)
    return tmp_path / "kitti"


@pytest.mark.parametrize("field", ["offsets", "skipped", "frame_offsets", "another"])
def test_a_manifest_of_ten_million_values(shards, field):
    path = shards / "index.json"
    stored = json.loads(path.read_bytes())
    place = {"offsets": stored["shards"][1], "frame_offsets": stored["recipe"]}.get(field, stored)
    place[field] = "MANY"
    many = f"[{','.join('0' * 10_000_000)}]"
    path.write_text(json.dumps(stored).replace('"MANY"', many))
    assert ("is damaged" in peak_of("read", shards)) == (field != "another")


def test_a_manifest_without_end(shards):
    (shards / "index.json").unlink()
    (shards / "index.json").symlink_to("/dev/zero")
    assert "not a regular file" in peak_of("read", shards)


def test_a_ground_truth_that_says_100000_x_60000(shards):
    def forge(content):
        arrays = {name: np.load(io.BytesIO(content))[name] for name in ("known", "depth")}
        stream = io.BytesIO()
        np.savez_compressed(stream, shape=np.array([60_000, 100_000]), **arrays)
        return stream.getvalue()

    change_member(shards, KEYS[4], "velodyne.npz", forge)
    assert "is damaged" in peak_of("read", shards)


@pytest.mark.parametrize("name", [IMAGE, ANNOTATED])
def test_an_image_of_kitti_that_says_100000_x_60000(kitti, name):
    (kitti / name).write_bytes(png_of(100_000, 60_000, bits=16, colour=0))
    assert "expected at most 64,000,000" in peak_of("pack", kitti, "annotated")


@pytest.mark.parametrize("name", [IMAGE, SCAN, CALIBRATION])
def test_an_archive_whose_member_unpacks_to_gigabytes(kitti, tmp_path, name):
    (kitti / name).unlink()
    write_archives(kitti, tmp_path / "zips")
    path = next((tmp_path / "zips").glob("*calib.zip" if name == CALIBRATION else "*sync.zip"))
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(3000):
            member.write(bytes(1 << 20))
    assert "has 3145728000 bytes, expected at most" in peak_of("pack", path.parent, "velodyne")


def test_a_run_of_32000000_x_32000(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoints", resume_state(4))
    (tmp_path / "checkpoints" / "latest").write_text(checkpoint.name)
    settings = dump_config(load_config())
    settings = settings.replace("height: 192", "height: 32000000").replace("640", "32000")
    (checkpoint / "config.yaml").write_text(settings)
    write_manifest(checkpoint, resume_state(4))
    assert "data.height=32000000" in peak_of("load", tmp_path)


@pytest.mark.parametrize(
    ("size", "outcome"), [((13_000, 13_000), "expected at most"), ((8000, 8000), "done")]
)
def test_a_picture_as_large_as_it_may_be_or_larger(tmp_path, size, outcome):
    path = tmp_path / "large.png"
    path.write_bytes(png_of(*size, row=bytes(-(-size[0] // 8)), bits=1, colour=0))
    assert path.stat().st_size < 100_000
    assert outcome in peak_of("predict", path)
