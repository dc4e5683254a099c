"""Read-only view of a file tree in folders and in zip archives, which stay packed."""

import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from posixpath import dirname
from typing import Protocol

from md2dist.errors import KittiAccessError, KittiDataError, Md2distError

_WRAPPER = "dataset"  # top-level folder in the archives of KITTI odometry
_ABSENT = (FileNotFoundError, NotADirectoryError)
_FAULTS = (  # raised by zipfile if archives are damaged or cannot be read
    OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
# errno of OSErrors that damage causes: from a decompressor, or a seek before the start.
_OF_DAMAGE = (None, errno.EINVAL)


class SourceTree:
    """The files below some folders and in the archives ``*.zip`` directly inside them.

    Files are named by their path below a root or in an archive, e.g.
    ``2011_09_26/calib_cam_to_cam.txt``. Roots are opened on first use, and of archives only the
    directories are read. A tree can be pickled; each process opens the archives itself.

    Args:
        *roots: the folders.
    """

    def __init__(self, *roots: str | Path):
        self.roots = tuple(map(Path, roots))
        self._owner = 0  # id of the process that opened the places
        self._places: list[_Place] = []
        self._broken: list[Md2distError] = []  # errors of archives, or in listing them
        self._files: dict[str, set[str]] = {}  # by folder, cached at the first listing

    def __reduce__(self):
        return open_tree, self.roots

    def __str__(self) -> str:
        return ", ".join(map(str, self.roots))

    def folders(self, folder: str = "") -> list[str]:
        """Lists the names of the folders in a folder; empty if it does not exist.

        Raises:
            KittiDataError: if an archive is damaged, since it may hold any folder.
            KittiAccessError: if access to the folder or an archive is denied.
        """
        places = self._open()
        if self._broken:
            raise self._refuse()
        return sorted(set().union(*(place.folders(folder) for place in places)))

    def files(self, folder: str) -> set[str]:
        """Lists the names of the files in a folder; empty if it does not exist.

        Raises:
            KittiDataError: if the folder is present twice, or may be in a damaged archive.
            KittiAccessError: if access to the folder, or to an archive that may hold it, is denied.
        """
        if folder not in self._files:
            self._files[folder] = self._list_files(folder)
        return self._files[folder]

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes; None if there is no such file.

        Raises:
            KittiAccessError: if access to the file is denied.
        """
        sizes = (place.size(name) for place in self._open())
        return next((size for size in sizes if size is not None), None)

    def stamp(self, name: str) -> str | None:
        """Returns a text that changes with a file's content; None if there is no such file.

        It is made of size, time of modification and time of the last change of its entry (which a
        copy that keeps the former sets) in ns; in an archive, of size and CRC-32.

        Raises:
            KittiAccessError: if access to the file is denied.
        """
        stamps = (place.stamp(name) for place in self._open())
        return next((stamp for stamp in stamps if stamp is not None), None)

    def read(self, name: str) -> bytes:
        """Reads a file from its folder, else from the first archive by name that holds it.

        Raises:
            KittiDataError: if the file is missing or damaged.
            KittiAccessError: if access to the file, or to an archive that may hold it, is denied.
        """
        for place in self._open():
            if place.size(name) is not None:
                return place.read(name)
        raise self._refuse(f"no file {name}; download the archive that holds it")

    def _list_files(self, folder: str) -> set[str]:
        homes = [(place.label, names) for place in self._open() if (names := place.files(folder))]
        if len(homes) > 1:
            labels = " and ".join(label for label, _ in homes)
            raise KittiDataError(f"duplicate drive: {folder} is present {labels}; keep one of them")
        if not homes and self._broken:
            raise self._refuse(f"no folder {folder}")
        return set().union(*(names for _, names in homes))

    def _refuse(self, *missing: str) -> Md2distError:
        """Returns the error for a missing file, with the unread archives that may hold it."""
        is_unread = any(isinstance(error, KittiAccessError) for error in self._broken)
        reasons = "; ".join([*missing, *map(str, self._broken)])
        return KittiAccessError(reasons) if is_unread else KittiDataError(reasons)

    def _open(self) -> "list[_Place]":
        # A forked process would share the position in an open file with its parent.
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._places, self._broken = [], []
            for number, root in enumerate(self.roots, 1):
                self._open_root(root, f" (folder {number})" * (len(self.roots) > 1))
        return self._places

    def _open_root(self, root: Path, suffix: str) -> None:
        self._places.append(_Folder(root, f"extracted{suffix}"))
        if (root / _WRAPPER).is_dir():
            self._places.append(_Folder(root / _WRAPPER, f"extracted in {_WRAPPER}{suffix}"))
        try:
            names = sorted(entry.name for entry in _scan(root) if _is_archive(entry))
        except KittiAccessError as error:  # extracted files may suffice
            self._broken.append(error)
            return
        for name in names:
            try:
                self._places.append(_Archive(root / name, f"in {name}{suffix}"))
            except _FAULTS as error:
                self._broken.append(_explain(f"{name}{suffix}", root / name, error))


@cache
def open_tree(*roots: Path) -> SourceTree:
    """Returns the tree of some folders, one per process, shared by all of its jobs."""
    return SourceTree(*roots)


@contextmanager
def naming_the_roots(tree: SourceTree) -> Iterator[None]:
    """Adds a tree's folders to errors about its files, which do not name them.

    Reasons for skipped samples are stored in the shards, so they must not depend on the folders.

    Raises:
        KittiDataError: the error raised inside, with the folders added.
    """
    try:
        yield
    except KittiDataError as error:
        raise KittiDataError(f"{error} (in {tree})") from None


class _Place(Protocol):
    label: str  # location, for messages

    def folders(self, folder: str) -> set[str]: ...
    def files(self, folder: str) -> set[str]: ...
    def size(self, name: str) -> int | None: ...
    def stamp(self, name: str) -> str | None: ...
    def read(self, name: str) -> bytes: ...


class _Folder:
    """Extracted files on the disk."""

    def __init__(self, path: Path, label: str):
        self.path = path
        self.label = label

    def folders(self, folder: str) -> set[str]:
        return {entry.name for entry in _scan(self.path / folder) if _may_be(entry.is_dir)}

    def files(self, folder: str) -> set[str]:
        return {entry.name for entry in _scan(self.path / folder) if _may_be(entry.is_file)}

    def size(self, name: str) -> int | None:
        found = self._stat(name)
        return found and found.st_size

    def stamp(self, name: str) -> str | None:
        found = self._stat(name)
        return found and f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            return (self.path / name).stat()
        except _ABSENT:
            return None
        except OSError as error:
            raise _unread(self.path / name, error) from None

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except _ABSENT as error:
            raise KittiDataError(f"{name} cannot be read ({error.strerror})") from None
        except OSError as error:
            raise _unread(self.path / name, error) from None


class _Archive:
    """Files in a zip archive."""

    def __init__(self, path: Path, label: str):
        self.path = path
        self.label = label
        self._zip = zipfile.ZipFile(path)
        names = [name for name in self._zip.namelist() if not name.endswith("/")]
        is_wrapped = all(name.startswith(f"{_WRAPPER}/") for name in names)
        self._wrapper = f"{_WRAPPER}/" * is_wrapped
        self._names = [name.removeprefix(self._wrapper) for name in names]
        self._folders = {dirname(name) for name in self._names}

    def folders(self, folder: str) -> set[str]:
        start = f"{folder}/" * bool(folder)
        below = (inner.removeprefix(start) for inner in self._folders if inner.startswith(start))
        return {inner.partition("/")[0] for inner in below} - {""}

    def files(self, folder: str) -> set[str]:
        if folder not in self._folders:
            return set()
        return {name.rpartition("/")[2] for name in self._names if dirname(name) == folder}

    def size(self, name: str) -> int | None:
        found = self._find(name)
        return found and found.file_size

    def stamp(self, name: str) -> str | None:
        found = self._find(name)
        return found and f"{found.file_size} {found.CRC:08x}"

    def _find(self, name: str) -> zipfile.ZipInfo | None:
        if dirname(name) not in self._folders:
            return None
        try:
            return self._zip.getinfo(self._wrapper + name)
        except KeyError:
            return None

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._wrapper + name)
        except _FAULTS as error:
            raise _explain(f"{name} {self.label}", self.path, error) from None


def _scan(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except _ABSENT:
        return []
    except OSError as error:
        raise _unread(path, error) from None


def _is_archive(entry: os.DirEntry[str]) -> bool:
    if not entry.name.endswith(".zip") or entry.name.startswith("."):  # e.g. macOS resource forks
        return False
    return _may_be(lambda: not entry.is_dir())


def _may_be(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # reported when it is read; unlisted, it would count as missing
        return True


def _explain(name: str, path: Path, error: Exception) -> Md2distError:
    """Returns the error for a faulty archive, or for a file in it."""
    # If a read fails, zipfile reports "not a zip file" and keeps the cause as context.
    cause = error.__context__ if isinstance(error, zipfile.BadZipFile) else error
    if isinstance(cause, _ABSENT):
        return KittiDataError(f"{name} cannot be read ({cause.strerror})")
    if isinstance(cause, OSError) and cause.errno not in _OF_DAMAGE:  # of the disk or the network
        return _unread(path, cause)
    return KittiDataError(f"{name} is damaged ({error}); remove the archive and download it again")


def _unread(path: Path, error: OSError) -> KittiAccessError:
    return KittiAccessError(
        f"{path} cannot be read ({error.strerror}); check its permissions and its disk, then "
        "repeat the command"
    )
