"""The folder of a cache: made and marked by md2dist, unlike a folder of the user."""

import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from md2dist.errors import ConfigError

NAME = "md2dist-cache"
TAG_NAME = "CACHEDIR.TAG"  # https://bford.info/cachedir: programs for backups skip such folders
_TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# Made by md2dist, which deletes files from this folder when it needs room.\n"
)
_ENTRY = re.compile(r"[0-9a-f]{64}-[0-9]+-[0-9]+(\.part)?")  # earlier versions wrote no tag
_NUM_NAMES = 10  # tried in a folder where others may have taken the first ones


def make_cache_folder(folder: Path) -> None:
    """Creates the folder, closed to other users, or checks that it is a cache of md2dist.

    Raises:
        ConfigError: if it is a link or holds other files, which the cache would delete.
        OSError: if it cannot be created or read.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.is_symlink():
        raise ConfigError(f"the cache {folder} is a link, expected a folder; remove the link")
    if os.path.lexists(folder / TAG_NAME):
        return
    others = [path.name for path in folder.iterdir() if not _is_own(path.name)]
    if others:
        raise ConfigError(
            f"{folder} is not a cache of md2dist: it holds {others[0]!r}; move its files, or name "
            "another folder"
        )
    (folder / TAG_NAME).write_bytes(_TAG)


def user_cache_folder(name: str) -> Path:
    """Returns a folder for what is kept for good, such as ``~/.cache/md2dist/weights``.

    Raises:
        ConfigError: if this user has no home folder.
    """
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise ConfigError(
            f"{name} are cached in the home folder, but this user has none; set HOME or "
            "XDG_CACHE_HOME"
        ) from None
    return Path(cache) / "md2dist" / name


def default_cache_folder() -> Path:
    """Returns the user's cache below the system's folder for temporary files.

    Any user can prepare a folder or a link there under a name that is known. So one that is not a
    folder of this user, closed to others, is passed over.

    Raises:
        ConfigError: if all names are taken.
    """
    shared = Path(tempfile.gettempdir())
    for number in range(_NUM_NAMES):
        folder = shared / "-".join([NAME, str(os.geteuid()), *([str(number)] if number else [])])
        if _is_private(folder):
            return folder
    raise ConfigError(
        f"other users have taken the names of this user's cache in {shared}, {NAME}-"
        f"{os.geteuid()} and so on; set data.cache_dir or --cache-dir to a folder of your own"
    )


def _is_private(folder: Path) -> bool:
    """Whether a folder belongs to this user alone; it is created if missing."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    is_closed = not stat.S_IMODE(found.st_mode) & 0o077
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and is_closed


def _is_own(name: str) -> bool:
    # Another process may have written the tag in the meantime.
    return name == TAG_NAME or name.startswith(".") or _ENTRY.fullmatch(name) is not None
