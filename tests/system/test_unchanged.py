"""Regression test on real frames: shards and losses equal those of version 0.1.0.

The checksums hold for the library versions below, the losses for one thread on any CPU.
"""

import json
import sys
from itertools import islice

import pytest
from conftest import read_metrics, run_command

pytestmark = pytest.mark.slow
VERSIONS = {
    "libjpeg_turbo": "3.2.0",
    "numpy": "2.4.6",
    "pillow": "13.0.0",
    "webdataset": "1.0.2",
    "webp": "1.6.0",
    "zlib": "1.2.13",
    "zlib_ng": "2.3.3",
}
SHARD_SUMS = {
    "png": [
        "0ea113a2b803207959c9fc4d2367d4c659f1669e48e615621dd432bf88237424",
        "6644bf677a0e94785d9d37adccbd92c0eb3339d34dae99fc786b2bf2cfee092d",
    ],
    "jpg": [
        "1aa31aec022343b8761414f91cd2f1e393a25a2c8c32fe1b1032b10cf6cb5b9c",
        "e2733821a5d2f27ac9f7a0900a307388aca64ef11b45d1188a5dd22eed33f7e1",
    ],
    "webp": [
        "9e44b01987c6aa8e6e5190a7819152e64461b3f0ce15720787e28c57e8e23d77",
        "ac7cf9921c0977d869fa83678461ca383e904043234d03481d58881fab383686",
    ],
}
LOSSES = {1: 0.14052139222621918, 2: 0.15014201402664185, 3: 0.11487428843975067}


@pytest.fixture(scope="module")
def pack(shared, kitti_raw, tmp_path_factory):
    """Packs the first 64 lines of drive 0005 at 320x96 in an image format; returns the folder."""
    folder = tmp_path_factory.mktemp("drive_0005")
    lines = (shared / "splits" / "eigen_zhou" / "train_files.txt").read_text().splitlines(True)
    split = folder / "split.txt"
    split.write_text(
        "".join(islice((line for line in lines if "2011_09_26_drive_0005" in line), 64))
    )

    def pack_as(image_format):
        output = folder / image_format
        if not output.exists():
            process = run_command([
                sys.executable, "shard_tools/make_shards.py", "--kitti-root", kitti_raw,
                "--split", split, "--output", output, "--height", 96, "--width", 320,
                "--image-format", image_format, "--samples-per-shard", 32, "--processes", 2,
            ])  # fmt: skip
            assert process.returncode == 0, process.stdout + process.stderr
        return output

    return pack_as


@pytest.mark.parametrize("image_format", SHARD_SUMS)
def test_drive_0005_packs_to_the_bytes_of_version_0_1_0(pack, image_format):
    index = json.loads((pack(image_format) / "index.json").read_text())
    libraries = {name: text for name, text in index["versions"].items() if name != "md2dist"}
    if libraries != VERSIONS:
        pytest.skip(f"other library versions give other bytes: {libraries}")
    assert [shard["sha256"] for shard in index["shards"]] == SHARD_SUMS[image_format]


def test_three_steps_on_drive_0005_have_the_losses_of_version_0_1_0(pack, tmp_path):
    process = run_command([
        sys.executable, "launch/train.py", "--config", "configs/mono_stereo.yaml",
        f"data.train_shards={pack('png')}", f"log.run_dir={tmp_path / 'run'}", "data.height=96",
        "data.width=320", "data.window_shards=2", "data.num_workers=1", "network.weights=scratch",
        "optim.micro_batch_size=4", "optim.max_steps=3", "precision.dtype=fp32",
        "log.every_steps=1", "log.pictures_every_steps=0",
    ])  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    assert read_metrics(tmp_path / "run") == pytest.approx(LOSSES, rel=1e-3)
