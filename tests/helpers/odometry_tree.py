"""The drive of the small KITTI raw tree in the layout of KITTI odometry."""

from pathlib import Path

import numpy as np
from helpers.kitti_tree import DATE, DRIVE, write_archive, write_entries

from md2dist.data.kitti.calibration import load_calibration

SEQUENCE = "09"


def write_odometry_tree(raw: Path, root: Path) -> None:
    """Writes the raw tree's drive as a sequence, with the same images, scans and calibration."""
    folder = root / "sequences" / SEQUENCE
    calibration = load_calibration(raw / DATE)
    R_rect = np.eye(4)
    R_rect[:3, :3] = calibration.R_rect_00
    entries = {f"P{camera}": calibration.P_rect[camera] for camera in range(4)}
    entries["Tr"] = (R_rect @ calibration.velo_to_cam)[:3]
    for ours, theirs in (
        ("image_2", "image_02/data"),
        ("image_3", "image_03/data"),
        ("velodyne", "velodyne_points/data"),
    ):
        (folder / ours).mkdir(parents=True)
        for path in (raw / DRIVE / theirs).glob("*"):
            (folder / ours / path.name[4:]).write_bytes(path.read_bytes())  # 6 digits of 10
    write_entries(folder / "calib.txt", entries)


def write_odometry_archives(root: Path, output: Path) -> None:
    """Writes the zip archives of a tree, named and laid out as published."""
    output.mkdir(parents=True)
    calibrations = sorted(root.rglob("calib.txt"))
    write_archive(output / "data_odometry_calib.zip", root, calibrations, "dataset/")
    write_archive(
        output / "data_odometry_velodyne.zip", root, sorted(root.rglob("*.bin")), "dataset/"
    )
    # The image archives contain calibrations, too, but without the laser's.
    whole = {path: path.read_text() for path in calibrations}
    for path, text in whole.items():
        path.write_text("".join(line for line in text.splitlines(True) if line[:2] != "Tr"))
    images = sorted(root.rglob("*.png"))
    write_archive(output / "data_odometry_color.zip", root, [*calibrations, *images], "dataset/")
    for path, text in whole.items():
        path.write_text(text)
