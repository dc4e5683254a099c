"""Drives through synthetic streets, written as KITTI raw data with exact geometry."""

import re
import shutil
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from md2dist.errors import KittiDataError
from md2dist.process_map import map_in_processes
from md2dist.storage.atomic import publish
from md2dist.synthetic.drive import FRAME_RATE, Drive
from md2dist.synthetic.kitti_files import format_calibration, format_oxts

DATE = "2026_01_01"
_OWN_NAME = re.compile(rf"calib_\w+\.txt|{DATE}_drive_[0-9]{{4,}}_sync")


class _Task(NamedTuple):
    """One frame of one drive, with all its files."""

    drive: Drive
    frame: int
    folder: Path
    image_format: str
    use_scan: bool
    azimuth_step: float


class DriveSettings(NamedTuple):
    """Number, images and scans of the drives to render."""

    num_drives: int
    num_frames: int  # stereo frames of each drive, 0.1 s apart
    height: int = 375  # rows of the images in pixels
    width: int = 1242  # columns of the images in pixels
    seed: int = 0  # of the world: another one gives other streets, colours and motions
    scan_every: int = 1  # frames from one scan to the next, the first at frame 0; 0: no scans
    azimuth_step: float = 0.3  # degrees between two firings of a beam of the scanner
    image_format: str = "png"  # or jpg
    first_drive: int = 1  # number of the first drive; each number has its own street


def render_drives(
    output: Path, settings: DriveSettings, *, processes: int = 1, overwrite: bool = False
) -> list[Path]:
    """Renders drives, each through its own street, into KITTI raw's layout.

    The folder of the date appears once it is complete. The same settings give the same bytes for
    any number of processes.

    Args:
        output: root of the new KITTI raw tree.
        settings: the drives.
        processes: number of worker processes.
        overwrite: replace existing drives; other files beside them are never deleted.

    Returns:
        The folders of the drives.

    Raises:
        KittiDataError: if the output has drives of this date already, or other files among them,
            or cannot be written, or a value is out of range.
        ShardError: if a worker process dies.
    """
    (
        num_drives, num_frames, height, width, seed, scan_every, azimuth_step, image_format,
        first_drive,
    ) = settings  # fmt: skip
    _check_at_least(1, num_drives=num_drives, num_frames=num_frames, processes=processes)
    _check_at_least(2, height=height, width=width)
    _check_at_least(0, seed=seed, scan_every=scan_every, first_drive=first_drive)
    _check_at_least(0.01, azimuth_step=azimuth_step)
    if image_format not in ("png", "jpg"):
        raise KittiDataError(f"image format {image_format!r}: expected png or jpg")
    final, partial = output / DATE, output / f".{DATE}.partial"
    drives = {
        f"{DATE}_drive_{number:04d}_sync": Drive(seed, number, height, width)
        for number in range(first_drive, first_drive + num_drives)
    }
    tasks = [
        _Task(
            drive=drive,
            frame=frame,
            folder=partial / name,
            image_format=image_format,
            use_scan=scan_every > 0 and frame % scan_every == 0,
            azimuth_step=azimuth_step,
        )
        for name, drive in drives.items()
        for frame in range(num_frames)
    ]
    try:
        if final.exists() and not overwrite:
            raise KittiDataError(
                f"{final} exists; choose another output folder or pass --overwrite"
            )
        _refuse_other_files(final)
        shutil.rmtree(partial, ignore_errors=True)
        for name in drives:
            _make_folders(partial / name, num_frames, scan_every)
        for file, text in format_calibration(next(iter(drives.values()))).items():
            (partial / file).write_text(text)
        _write_frames(tasks, processes)
        if final.exists():
            shutil.rmtree(final)
        publish(partial, final)
    except OSError as error:
        raise KittiDataError(f"drives cannot be written to {output}: {error}") from None
    return [final / name for name in drives]


def split_lines(
    drive_folder: Path, num_frames: int, offsets: tuple[int, ...], sides: str = "lr"
) -> list[str]:
    """Returns the lines of a split file for all frames of a drive with complete neighbours.

    Args:
        drive_folder: ``.../DATE/DRIVE``.
        num_frames: frames of the drive, numbered from 0.
        offsets: frame offsets of the neighbours, e.g. (-1, 1).
        sides: cameras to list, ``l`` for the left one and ``r`` for the right one.

    Returns:
        Lines ``DATE/DRIVE 0000000005 l``.
    """
    first, last = max(0, -min(offsets, default=0)), num_frames - max(0, max(offsets, default=0))
    drive = f"{drive_folder.parent.name}/{drive_folder.name}"
    return [f"{drive} {frame:010d} {side}" for frame in range(first, last) for side in sides]


def _refuse_other_files(folder: Path) -> None:
    """Refuses to replace a folder that holds anything but rendered drives."""
    others = [path for path in folder.glob("*") if not _OWN_NAME.fullmatch(path.name)]
    if folder.is_symlink() or others:
        raise KittiDataError(
            f"{others[0] if others else folder} is not one of the files that are replaced; move "
            "it, or choose another output folder"
        )


def _check_at_least(lowest: float, **values: float) -> None:
    for name, value in values.items():
        if not value >= lowest:
            raise KittiDataError(f"{name}={value}: expected >= {lowest}")


def _make_folders(folder: Path, num_frames: int, scan_every: int) -> None:
    start = datetime(2026, 1, 1, 12)
    stamps = [
        f"{start + timedelta(seconds=frame / FRAME_RATE):%Y-%m-%d %H:%M:%S.%f}000\n"
        for frame in range(num_frames)
    ]
    for name in ("image_02", "image_03", "oxts", "velodyne_points")[: 4 if scan_every else 3]:
        (folder / name / "data").mkdir(parents=True)
        (folder / name / "timestamps.txt").write_text("".join(stamps))


def _write_frames(tasks: list[_Task], processes: int) -> None:
    # Each process builds the street of a drive anew, which pays off from about 20 frames.
    size = ceil(len(tasks) / processes / ceil(len(tasks) / processes / 20))
    chunks = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    for _ in map_in_processes(_write_chunk, chunks, processes):
        pass


def _write_chunk(tasks: list[_Task]) -> None:
    for task in tasks:
        _write_frame(task)


def _write_frame(task: _Task) -> None:
    drive, frame, folder = task.drive, task.frame, task.folder
    name = f"{frame:010d}"
    for camera in (2, 3):
        image = Image.fromarray(drive.render(frame, camera)[0])
        path = folder / f"image_{camera:02d}" / "data" / f"{name}.{task.image_format}"
        image.save(path, compress_level=1, quality=95)
    (folder / "oxts" / "data" / f"{name}.txt").write_text(format_oxts(drive, frame))
    if task.use_scan:
        drive.scan(frame, task.azimuth_step).tofile(
            folder / "velodyne_points" / "data" / f"{name}.bin"
        )
