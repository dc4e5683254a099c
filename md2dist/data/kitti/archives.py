"""Download of the published archives of KITTI raw."""

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
_NUM_REQUESTS = 8  # concurrent size requests


class Archive(NamedTuple):
    """A zip file on its server and on the local disk."""

    url: str
    path: Path
    num_bytes: int

    @property
    def num_missing(self) -> int:
        """Number of bytes still to be downloaded."""
        part = self.path.with_name(f"{self.path.name}.part")
        present = next((path.stat().st_size for path in (self.path, part) if path.is_file()), 0)
        return max(0, self.num_bytes - present)


def list_archives(patterns: Sequence[str] = ("*",)) -> list[str]:
    """Lists the archives of chosen drives and of the calibration of their dates.

    Args:
        patterns: drives, dates or parts of names with ``*``: ``2011_09_26_drive_0005``,
            ``2011_10_03``, ``*_drive_0027``.

    Returns:
        Paths below the base address.

    Raises:
        ConfigError: if a pattern matches no drive.
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
                f"--drives {pattern} matches none of the {len(DRIVES)} drives; expected a date or "
                "a drive such as 2011_09_26_drive_0005, in which * matches any characters"
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
    """Requests the sizes of archives and compares them with the files in the output folder.

    Raises:
        DownloadError: if the server lacks an archive, an archive in the folder has another size,
            or the disk has too little free space.
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
                f"{archive.path} has {archive.path.stat().st_size} bytes, the file on the server "
                f"has {archive.num_bytes}; remove the local file and repeat the command"
            )
    missing, free = sum(archive.num_missing for archive in archives), _free_bytes(output)
    if missing > free:
        raise DownloadError(
            f"{output} has {free / 1e9:.1f} GB of free space, but {missing / 1e9:.1f} GB are still "
            "to be downloaded; choose another folder, or fewer drives with --drives"
        )
    return archives


def fetch_archive(
    archive: Archive,
    retry_policy: RetryPolicy = BACKGROUND,
    on_bytes: Callable[[int], object] = lambda num_bytes: None,
) -> None:
    """Downloads one archive unless it exists.

    Args:
        archive: from `plan_download`.
        retry_policy: retries and timeout for a server that fails.
        on_bytes: progress callback, called with numbers of bytes that add up to the archive's size.

    Raises:
        DownloadError: if the archive cannot be downloaded, or is not a zip archive.
    """
    if archive.path.is_file():
        on_bytes(archive.num_bytes)
        return
    download(
        archive.url,
        archive.path,
        _check_zip,
        max_bytes=archive.num_bytes,
        retry_policy=retry_policy,
        on_bytes=on_bytes,
    )


def _check_zip(path: Path) -> None:
    try:
        zipfile.ZipFile(path).close()
    except zipfile.BadZipFile as error:
        raise DownloadError(f"it is not a zip archive ({error})") from None


def _free_bytes(folder: Path) -> int:
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    return shutil.disk_usage(existing).free
