import dataclasses
import shutil

import numpy as np
import pytest
from helpers.kitti_tree import (
    BASELINE,
    CX,
    DATE,
    DRIVE,
    FX,
    HEIGHT,
    WIDTH,
    write_drive_with_scans,
)
from helpers.odometry_tree import SEQUENCE, write_odometry_archives, write_odometry_tree
from helpers.packing_command import bytes_of, pack_lines
from PIL import Image

from md2dist.data.inspection.data_card import describe_shards
from md2dist.data.inspection.verification import verify_shards
from md2dist.data.kitti.calibration import read_calibration
from md2dist.data.kitti.drives import name_in_raw
from md2dist.data.kitti.layout import list_drives, list_frames
from md2dist.data.kitti.splits import SplitLine, read_split
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError

RECIPE = Recipe("odom/train", 32, 64, (-1, 1), True, samples_per_shard=5, ground_truth="velodyne")
LINES = [SplitLine(SEQUENCE, frame, side) for side in "lr" for frame in range(1, 5)]


@pytest.fixture
def raw(tmp_path):
    return write_drive_with_scans(tmp_path / "raw", num_frames=6)


@pytest.fixture
def root(raw, tmp_path):
    write_odometry_tree(raw, tmp_path / "odometry")
    return tmp_path / "odometry"


def pack(root, output, lines=LINES, *, skip_bad=False):
    return pack_lines(root, output, lines, RECIPE, skip_bad=skip_bad)


def test_the_published_lists_name_sequences(shared):
    for name, count in (("train", 36671), ("val", 4075), ("test_09", 1590), ("test_10", 1200)):
        part, _, sequence = name.partition("_")
        file = f"{part}_files{sequence and '_'}{sequence}.txt"
        lines = read_split(shared / "splits" / "odom" / file)
        assert len({line.key for line in lines}) == count
        expected = [sequence] if sequence else [f"{number:02d}" for number in range(9)]
        assert sorted({line.drive for line in lines}) == expected


def test_a_sequence_is_packed_as_the_drive_that_it_was_cut_from(raw, root, tmp_path):
    pack(root, tmp_path / "sequence")
    pack(raw, tmp_path / "drive", [line._replace(drive=DRIVE) for line in LINES])
    for ours, theirs in zip(
        ShardDataset(tmp_path / "sequence"), ShardDataset(tmp_path / "drive"), strict=True
    ):
        for view in ("0", "-1", "+1", "s"):
            np.testing.assert_array_equal(ours.frames[view], theirs.frames[view])
        np.testing.assert_array_equal(ours.ground_truth, theirs.ground_truth)
        names = {"key": f"09_{ours.info['side']}_{ours.info['frame']:010d}"}
        assert ours.info == theirs.info | names | {"date": "", "drive": SEQUENCE}


def test_archives_give_the_bytes_that_folders_give(root, tmp_path):
    write_odometry_archives(root, tmp_path / "archives")
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked" / "dataset").symlink_to(root)
    for name in ("odometry", "archives", "unpacked"):
        pack(tmp_path / name, tmp_path / f"from_{name}")
    expected = bytes_of(tmp_path / "from_odometry")
    assert expected == bytes_of(tmp_path / "from_archives") == bytes_of(tmp_path / "from_unpacked")


def test_each_sequence_has_its_own_rig_and_size(raw, root, tmp_path):
    other = root / "sequences" / "10"
    (root / "sequences" / "09").rename(other)
    write_odometry_tree(raw, root)
    text = (other / "calib.txt").read_text()
    for number in (FX, CX):
        text = text.replace(f"{number:.6e}", f"{2 * number:.6e}")
    (other / "calib.txt").write_text(text)
    for path in other.rglob("*.png"):
        Image.open(path).resize((2 * WIDTH, HEIGHT)).save(path)
    pack(root, tmp_path / "out", [SplitLine("09", 2, "l"), SplitLine("10", 2, "l")])
    infos = {sample.info["drive"]: sample.info for sample in ShardDataset(tmp_path / "out")}
    assert infos["09"]["native_width"] == WIDTH
    assert infos["10"]["native_width"] == 2 * WIDTH
    assert infos["09"]["K"][0][0] == pytest.approx(FX * 64 / WIDTH)
    assert infos["10"]["K"][0][0] == pytest.approx(2 * FX * 64 / (2 * WIDTH))
    assert infos["09"]["K"][0][2] == pytest.approx((CX + 0.5) * 64 / WIDTH - 0.5)
    assert infos["09"]["baseline"] == BASELINE
    assert infos["10"]["baseline"] == BASELINE / 2


def test_the_real_calibration_has_the_published_intrinsics_and_baseline(shared, tmp_path):
    (tmp_path / "sequences" / "04").mkdir(parents=True)
    text = (shared / "kitti" / "odometry" / "calib_04_to_10.txt").read_text()
    (tmp_path / "sequences" / "04" / "calib.txt").write_text(text)
    calibration = read_calibration(SourceTree(tmp_path), "04").with_size(370, 1226)
    K = [[707.0912, 0, 601.8873], [0, 707.0912, 183.1104], [0, 0, 1]]
    assert calibration.K[2].tolist() == calibration.K[3].tolist() == K
    assert calibration.baseline == pytest.approx((46.88783 + 333.4597) / 707.0912)
    assert calibration.sizes[2].tolist() == [370, 1226]
    R = calibration.velo_to_cam[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
    translation = [-4.784029760483e-03, -7.337429464231e-02, -3.339968064433e-01, 1]
    assert calibration.velo_to_cam[:, 3].tolist() == translation


def test_verification_and_data_set_card_support_sequences(root, tmp_path):
    pack(root, tmp_path / "out")
    verdict = verify_shards(tmp_path / "out")
    assert verdict.faults == []
    assert verdict.num_found == len(LINES)
    assert verdict.gaps == {SEQUENCE: []}
    row = describe_shards(tmp_path / "out").splitlines()[-1].split()
    assert row == [SEQUENCE, "4", "4", "100.0%", "1-4", "0", "0"]


def test_frames_that_a_drive_of_raw_shows_in_evaluation_are_leaks(raw, root, tmp_path):
    drive, sequence = "2011_09_30/2011_09_30_drive_0033_sync", SEQUENCE
    shutil.copytree(raw / DATE, raw / "2011_09_30")
    (raw / "2011_09_30" / DRIVE.partition("/")[2]).rename(raw / drive)
    pack(root, tmp_path / "train", [SplitLine(sequence, frame, "l") for frame in (1, 2)])
    pack(raw, tmp_path / "test", [SplitLine(drive, 4, "r")])
    faults = verify_shards(tmp_path / "train", against=tmp_path / "test").faults
    assert [str(fault) for fault in faults] == [
        f"{drive}: the evaluation shards show 1 of its frames: 3"
    ]


def test_a_sequence_may_begin_in_the_middle_of_a_drive():
    assert name_in_raw("08", 5) == ("2011_09_30/2011_09_30_drive_0028_sync", 1105)
    assert name_in_raw("11", 5) == ("11", 5)
    assert name_in_raw(DRIVE, 5) == (DRIVE, 5)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / "calib.txt").unlink(), r"no file sequences/09/calib\.txt"),
        (lambda folder: cut(folder, "Tr"), r"calib\.txt: expected an entry Tr of 12 numbers"),
        (lambda folder: cut(folder, "P3"), r"calib\.txt: expected an entry P3 of 12 numbers"),
        (lambda folder: (folder / "image_3").rename(folder / "x"), "image_3 is missing.*--no-st"),
        (
            lambda folder: (folder / "image_2" / "000002.png").unlink(),
            r"no image sequences/09/image_2/000002\.png\|jpg",
        ),
        (
            lambda folder: (folder / "velodyne" / "000003.bin").unlink(),
            "000003.bin; .*_velodyne.zip",
        ),
    ],
)
def test_a_missing_part_of_a_sequence_is_named(root, tmp_path, harm, words):
    harm(root / "sequences" / "09")
    with pytest.raises(KittiDataError, match=words):
        pack(root, tmp_path / "out")


def test_only_scans_need_the_pose_of_the_scanner(root, tmp_path):
    cut(root / "sequences" / "09", "Tr")
    recipe = dataclasses.replace(RECIPE, ground_truth="none")
    assert pack_lines(root, tmp_path / "out", LINES, recipe).num_samples == len(LINES)
    with pytest.raises(
        KittiDataError, match=r"entry Tr .*velodyne needs; .* data_odometry_calib\.zip"
    ):
        pack(root, tmp_path / "scans")


def cut(folder, name):
    lines = (folder / "calib.txt").read_text().splitlines(keepends=True)
    (folder / "calib.txt").write_text("".join(x for x in lines if not x.startswith(name)))


def test_rules_list_drives_of_raw_alone(root):
    tree = SourceTree(root)
    assert list_drives(tree) == []
    assert list_frames(tree, SEQUENCE, "r") == set(range(6))
