"""Places of KITTI files: extracted folders, and the errors of all places."""

import errno
import os
import stat
import zipfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Protocol

from md2dist.data.kitti.finder import Found, Listing, looks_like_kitti
from md2dist.errors import KittiAccessError, KittiDataError, Md2distError

_ABSENT = (FileNotFoundError, NotADirectoryError)
# errno of OSErrors that damage causes: from a decompressor, or a seek before the start.
_OF_DAMAGE = (None, errno.EINVAL)


class Place(Protocol):
    """Files by their names in the published layout."""

    label: str  # location, for messages

    def folders(self, folder: str) -> set[str]:
        """Lists the names of the folders in a folder; empty if it does not exist."""
        ...

    def files(self, folder: str) -> set[str]:
        """Lists the names of the files in a folder; empty if it does not exist."""
        ...

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes; None if there is no such file."""
        ...

    def stamp(self, name: str) -> str | None:
        """Returns a text that changes with a file's content; None if there is no such file."""
        ...

    def read(self, name: str) -> bytes:
        """Reads a file."""
        ...


class Folder:
    """Extracted files, by their paths in a folder.

    Args:
        path: the folder.
        label: location, for messages.
    """

    def __init__(self, path: Path, label: str = "extracted"):
        self.path = path
        self.label = label

    @property
    def top(self) -> str:
        """Name of the folder, before or after links; empty for the root of the file system."""
        names = self.path.absolute().name, self.path.resolve().name
        return names[0] if looks_like_kitti(names[0]) else names[1]

    def identify(self, folder: str) -> object:
        """Returns what is the same for all links to a folder; None if it cannot be read."""
        try:
            status = (self.path / folder).stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def list(self, folder: str, limit: int) -> Listing:
        """Lists a folder of at most `limit` entries.

        Raises:
            KittiAccessError: if access to the folder is denied.
        """
        entries = scan(self.path / folder, limit + 1)
        if len(entries) > limit:
            return Listing(set(), set(), is_complete=False)
        folders = {entry.name for entry in entries if may_be(entry.is_dir, unknown=False)}
        return Listing(folders, {entry.name for entry in entries} - folders)

    def folders(self, folder: str) -> set[str]:
        """Lists the names of the folders in a folder; empty if it does not exist."""
        return {entry.name for entry in scan(self.path / folder) if may_be(entry.is_dir)}

    def files(self, folder: str) -> set[str]:
        """Lists the names of the files in a folder; empty if it does not exist."""
        return {entry.name for entry in scan(self.path / folder) if may_be(entry.is_file)}

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes; None if there is no such file."""
        found = self._stat(name)
        return found and found.st_size

    def stamp(self, name: str) -> str | None:
        """Returns a text that changes with a file's content; None if there is no such file."""
        found = self._stat(name)
        return found and f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            found = (self.path / name).stat()
            is_special = not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))
            return None if is_special else found  # reading a pipe or device may not end
        except _ABSENT:
            return None
        except OSError as error:
            raise explain_access(self.path / name, error) from None

    def read(self, name: str) -> bytes:
        """Reads a file."""
        try:
            return (self.path / name).read_bytes()
        except _ABSENT as error:
            raise KittiDataError(f"{name} cannot be read ({error.strerror})") from None
        except OSError as error:
            raise explain_access(self.path / name, error) from None


class FoundFolder:
    """A folder or file that was found in another folder than that of the published layout.

    Args:
        folder: the folder that was searched.
        found: what was found.
        suffix: rest of the label.
    """

    def __init__(self, folder: Folder, found: Found, suffix: str = ""):
        self.label = f"extracted in {found.path}{suffix}"
        self._folder = folder
        self._found = found

    def folders(self, folder: str) -> set[str]:
        """Lists the names of the folders in a folder; empty if it does not exist."""
        inner = self._locate(folder)
        if inner is not None:
            return self._folder.folders(inner)
        start = f"{folder}/" * bool(folder)
        if not self._found.name.startswith(start):
            return set()
        below, _, more = self._found.name.removeprefix(start).partition("/")
        return {below} if more or self._folder.folders(self._found.path) else set()

    def files(self, folder: str) -> set[str]:
        """Lists the names of the files in a folder; empty if it does not exist."""
        inner = self._locate(folder)
        return set() if inner is None else self._folder.files(inner)

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes; None if there is no such file."""
        inner = self._locate(name)
        return None if inner is None else self._folder.size(inner)

    def stamp(self, name: str) -> str | None:
        """Returns a text that changes with a file's content; None if there is no such file."""
        inner = self._locate(name)
        return None if inner is None else self._folder.stamp(inner)

    def read(self, name: str) -> bytes:
        """Reads a file."""
        inner = self._locate(name)
        if inner is None:
            raise KittiDataError(f"no file {name}")
        return self._folder.read(inner)

    def _locate(self, name: str) -> str | None:
        rest = name.removeprefix(self._found.name)
        is_inside = name.startswith(self._found.name) and (not rest or rest[0] == "/")
        return f"{self._found.path}{rest}".lstrip("/") if is_inside else None


def scan(path: Path, limit: int | None = None) -> list[os.DirEntry[str]]:
    """Lists at most `limit` entries of a folder; none if it does not exist.

    Dot files, such as `._NAME.png` of macOS, are none of KITTI's and are left out.

    Raises:
        KittiAccessError: if access to the folder is denied.
    """
    try:
        with os.scandir(path) as entries:
            shown = (entry for entry in entries if not entry.name.startswith("."))
            return list(islice(shown, limit))
    except _ABSENT:
        return []
    except OSError as error:
        raise explain_access(path, error) from None


def may_be(kind: Callable[[], bool], *, unknown: bool = True) -> bool:
    """Returns whether an entry is of a kind, or `unknown` if that cannot be determined."""
    try:
        return kind()
    except OSError:  # reported when it is read; unlisted, it would count as missing
        return unknown


def explain_fault(name: str, path: Path, error: Exception) -> Md2distError:
    """Returns the error for a faulty archive, or for a file in it."""
    # If a read fails, zipfile reports "not a zip file" and keeps the cause as context.
    cause = error.__context__ if isinstance(error, zipfile.BadZipFile) else error
    if isinstance(cause, _ABSENT):
        return KittiDataError(f"{name} cannot be read ({cause.strerror})")
    if isinstance(cause, OSError) and cause.errno not in _OF_DAMAGE:  # of the disk or the network
        return explain_access(path, cause)
    return KittiDataError(f"{name} is damaged ({error}); remove the archive and download it again")


def explain_access(path: Path, error: OSError) -> KittiAccessError:
    """Returns the error for a file or folder that cannot be read."""
    return KittiAccessError(
        f"{path} cannot be read ({error.strerror}); check its permissions and its disk, then "
        "repeat the command"
    )
