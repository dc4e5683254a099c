"""The published archives of KITTI raw: their addresses, their sizes, their download."""

import shutil
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from md2dist.data.kitti.drives import DRIVES
from md2dist.errors import ConfigError, DownloadError
from md2dist.storage.download import download, remote_size
from md2dist.storage.retries import BACKGROUND, INTERACTIVE, RetryPolicy

BASE_URL = "https://s3.eu-central-1.amazonaws.com/avg-kitti/raw_data"
_NUM_REQUESTS = 8  # at the same time, for sizes


class Archive(NamedTuple):
    """One zip file, at its server and here."""

    url: str
    path: Path
    num_bytes: int

    @property
    def num_missing(self) -> int:
        """Bytes that are not here yet."""
        part = self.path.with_name(f"{self.path.name}.part")
        here = next((path.stat().st_size for path in (self.path, part) if path.is_file()), 0)
        return max(0, self.num_bytes - here)


def list_archives(patterns: Sequence[str] = ("*",)) -> list[str]:
    """Names archives below the base address: chosen drives, and the calibration of their dates.

    Args:
        patterns: drives, dates or parts of names with ``*``: ``2011_09_26_drive_0005``,
            ``2011_10_03``, ``*_drive_0027``.

    Raises:
        ConfigError: if a pattern fits no drive.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        fits = {
            drive
            for drive in DRIVES
            if any(
                fnmatchcase(name, pattern)
                for name in (drive, drive.removesuffix("_sync"), drive.partition("_drive_")[0])
            )
        }
        if not fits:
            raise ConfigError(
                f"--drives {pattern} fits none of the {len(DRIVES)} drives; expected a date, or a "
                "name such as 2011_09_26_drive_0005, in which * stands for anything"
            )
        chosen |= fits
    drives = [drive for drive in DRIVES if drive in chosen]
    dates = dict.fromkeys(drive.partition("_drive_")[0] for drive in drives)
    calibrations = [f"{date}_calib.zip" for date in dates]
    return [*calibrations, *(f"{drive.removesuffix('_sync')}/{drive}.zip" for drive in drives)]


def plan_download(
    output: Path,
    names: Sequence[str],
    base_url: str = BASE_URL,
    retry_policy: RetryPolicy = INTERACTIVE,
) -> list[Archive]:
    """Asks for the sizes of archives, and compares them with what lies in the folder already.

    Raises:
        DownloadError: if the server lacks an archive, an archive in the folder is of another size,
            or the disk has no room for what is missing.
    """
    urls = [f"{base_url.rstrip('/')}/{name}" for name in names]
    with ThreadPoolExecutor(_NUM_REQUESTS) as pool:
        sizes = list(pool.map(lambda url: remote_size(url, retry_policy), urls))
    archives = [
        Archive(url, output / Path(url).name, size) for url, size in zip(urls, sizes, strict=True)
    ]
    for archive in archives:
        if archive.path.is_file() and archive.path.stat().st_size != archive.num_bytes:
            raise DownloadError(
                f"{archive.path} has {archive.path.stat().st_size} bytes, the server's file "
                f"{archive.num_bytes}; remove it and repeat the command"
            )
    missing, free = sum(archive.num_missing for archive in archives), _free_bytes(output)
    if missing > free:
        raise DownloadError(
            f"{output} has room for {free / 1e9:.1f} GB, and {missing / 1e9:.1f} GB are missing; "
            "choose another folder, or fewer drives with --drives"
        )
    return archives


def fetch_archive(
    archive: Archive,
    retry_policy: RetryPolicy = BACKGROUND,
    on_bytes: Callable[[int], object] = lambda num_bytes: None,
) -> None:
    """Downloads one archive, unless it is here.

    Args:
        archive: from `plan_download`.
        retry_policy: with a server that fails.
        on_bytes: is told of bytes that are here, all of them in the end.

    Raises:
        DownloadError: if it cannot be had, or is no zip archive.
    """
    if archive.path.is_file():
        on_bytes(archive.num_bytes)
        return
    download(archive.url, archive.path, _check_zip, retry_policy=retry_policy, on_bytes=on_bytes)


def _check_zip(path: Path) -> None:
    try:
        zipfile.ZipFile(path).close()
    except zipfile.BadZipFile as error:
        raise DownloadError(f"it is no zip archive ({error})") from None


def _free_bytes(folder: Path) -> int:
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    return shutil.disk_usage(existing).free
