"""Small KITTI raw tree with random images, for tests that need no real frames."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from md2dist.data.kitti.layout import find_image
from md2dist.data.kitti.tree import SourceTree

DATE = "2011_09_26"
DRIVE = f"{DATE}/{DATE}_drive_0005_sync"
HEIGHT, WIDTH = 48, 160
FX, CX, CY = 90.0, 79.5, 23.5  # pixels
BASELINE = 0.5  # m


def write_kitti_tree(
    root: Path, num_frames: int = 4, *, image_format: str = "png", use_scans: bool = False
) -> list[str]:
    """Writes one drive of random images for both cameras.

    Returns the split lines of all frames with both neighbours, left camera first.
    """
    rng = np.random.default_rng(0)
    write_calibration(root / DATE)
    for camera in (2, 3):
        folder = root / DRIVE / f"image_0{camera}" / "data"
        folder.mkdir(parents=True)
        for frame in range(num_frames):
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{frame:010d}.{image_format}")
    if use_scans:
        folder = root / DRIVE / "velodyne_points" / "data"
        folder.mkdir(parents=True)
        for frame in range(num_frames):
            points = rng.uniform((2, -10, -3, 0), (40, 10, 3, 1), (500, 4)).astype("<f4")
            (folder / f"{frame:010d}.bin").write_bytes(points.tobytes())
    return [f"{DRIVE} {frame} {side}" for side in "lr" for frame in range(1, num_frames - 1)]


def write_drive_with_scans(root: Path, num_frames: int = 3) -> Path:
    """Writes the drive with images and scans; returns the root."""
    write_kitti_tree(root, num_frames, use_scans=True)
    return root


def files_of(root: Path) -> dict[str, bytes]:
    """Returns the contents of all files below a folder, by relative path."""
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def write_annotated(root: Path, num_frames: int = 4) -> None:
    """Writes annotated depth of the drive for both cameras; a tenth of the pixels is valid."""
    rng = np.random.default_rng(1)
    for camera in (2, 3):
        folder = root / DRIVE.partition("/")[2] / "proj_depth" / "groundtruth" / f"image_0{camera}"
        folder.mkdir(parents=True)
        for frame in range(num_frames):
            counts = rng.integers(1, 2**16, (HEIGHT, WIDTH), np.uint16)
            counts[rng.random((HEIGHT, WIDTH)) > 0.1] = 0
            Image.fromarray(counts).save(folder / f"{frame:010d}.png")


def write_calibration(date_folder: Path) -> None:
    """Writes calibration: cameras along x, 3 at `BASELINE` right of 2, laser at camera 0."""
    date_folder.mkdir(parents=True, exist_ok=True)
    entries = {"R_rect_00": np.eye(3)}
    for camera, x in enumerate((0.0, 0.5, 0.0, BASELINE)):
        entries[f"S_rect_0{camera}"] = np.array([WIDTH, HEIGHT])
        entries[f"P_rect_0{camera}"] = np.array(
            [[FX, 0, CX, -FX * x], [0, FX, CY, 0], [0, 0, 1, 0]]
        )
    write_entries(date_folder / "calib_cam_to_cam.txt", entries)
    # Velodyne x forwards, y left, z up -> camera x right, y down, z forwards.
    to_camera = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])
    write_entries(date_folder / "calib_velo_to_cam.txt", {"R": to_camera, "T": np.zeros(3)})


def write_entries(path: Path, entries: dict[str, np.ndarray]) -> None:
    """Writes the `name: numbers` lines of a calibration file, after KITTI's time stamp."""
    lines = [f"{name}: {' '.join(f'{x:.6e}' for x in a.ravel())}" for name, a in entries.items()]
    path.write_text("\n".join(["calib_time: 09-Jan-2012 13:57:47", *lines, ""]))


def write_archives(root: Path, output: Path) -> None:
    """Writes the zip archives of an extracted tree, named and laid out as published."""
    output.mkdir(parents=True, exist_ok=True)
    for date in sorted(path for path in root.iterdir() if path.is_dir()):
        write_archive(output / f"{date.name}_calib.zip", root, sorted(date.glob("*.txt")))
        for drive in sorted(path for path in date.iterdir() if path.is_dir()):
            files = [date, drive, *sorted(drive.rglob("*"))]
            write_archive(output / f"{drive.name}.zip", root, files)


def write_archive(path: Path, root: Path, files: list[Path], prefix: str = "") -> None:
    """Adds files and folders to a zip under a prefix and their paths relative to the root."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"{prefix}{file.relative_to(root)}")


def image_path(root: Path, drive: str, frame: int, side: str) -> Path:
    """Returns the path of one camera's image in an extracted tree."""
    return root / find_image(SourceTree(root), drive, frame, side)


def scan_path(root: Path, frame: int) -> Path:
    """Returns the path of a laser scan of the drive in an extracted tree, which may not exist."""
    return root / DRIVE / "velodyne_points" / "data" / f"{frame:010d}.bin"
