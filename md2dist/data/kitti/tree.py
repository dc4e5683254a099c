"""A read-only tree of files, wherever they lie: in folders, and in zip archives nobody unpacks."""

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

_WRAPPER = "dataset"  # the folder around everything in the archives of KITTI odometry
_ABSENT = (FileNotFoundError, NotADirectoryError)
_FAULTS = (  # what zipfile raises over archives that are damaged or cannot be read
    OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
# Of these OSErrors an archive's damage is the cause: a codec's complaint, a seek before the start.
_OF_DAMAGE = (None, errno.EINVAL)


class SourceTree:
    """The files below some folders, together with those in the archives ``*.zip`` that lie in them.

    Files are named by their path below their root, e.g. ``2011_09_26/calib_cam_to_cam.txt``, which
    says nothing of where they lie. Nothing is opened before it is needed, and of archives only the
    directories are read. A tree may be sent to other processes; each opens its archives itself.

    Args:
        *roots: the folders.
    """

    def __init__(self, *roots: str | Path):
        self.roots = tuple(map(Path, roots))
        self._owner = 0  # the process that opened the places
        self._places: list[_Place] = []
        self._broken: list[Md2distError] = []  # what is wrong with archives, or hides them
        self._files: dict[str, set[str]] = {}  # by folder, as they were at the first look

    def __reduce__(self):
        return open_tree, self.roots

    def __str__(self) -> str:
        return ", ".join(map(str, self.roots))

    def folders(self, folder: str = "") -> list[str]:
        """Lists the names of the folders in a folder, which need not exist.

        Raises:
            KittiDataError: if an archive is broken, since it may hold any folder.
            KittiAccessError: if the folder, or an archive, cannot be read.
        """
        places = self._open()
        if self._broken:
            raise self._refuse()
        return sorted(set().union(*(place.folders(folder) for place in places)))

    def files(self, folder: str) -> set[str]:
        """Lists the names of the files in a folder, which need not exist.

        Raises:
            KittiDataError: if they lie in two places, or perhaps in a broken archive.
            KittiAccessError: if the folder, or an archive that may hold it, cannot be read.
        """
        if folder not in self._files:
            self._files[folder] = self._list_files(folder)
        return self._files[folder]

    def size(self, name: str) -> int | None:
        """Tells the size of a file in bytes; None where there is no such file.

        Raises:
            KittiAccessError: if the system does not tell.
        """
        sizes = (place.size(name) for place in self._open())
        return next((size for size in sizes if size is not None), None)

    def read(self, name: str) -> bytes:
        """Reads a file: from its folder, else from the first archive by name that holds it.

        Raises:
            KittiDataError: if there is no such file, or it is damaged.
            KittiAccessError: if it, or an archive that may hold it, cannot be read.
        """
        for place in self._open():
            if place.size(name) is not None:
                return place.read(name)
        raise self._refuse(f"no file {name}; download the archive that holds it")

    def _list_files(self, folder: str) -> set[str]:
        homes = [(place.label, names) for place in self._open() if (names := place.files(folder))]
        if len(homes) > 1:
            labels = " and ".join(label for label, _ in homes)
            raise KittiDataError(
                f"two drives of one name: {folder} is there {labels}; keep one of them"
            )
        if not homes and self._broken:
            raise self._refuse(f"no folder {folder}")
        return set().union(*(names for _, names in homes))

    def _refuse(self, *missing: str) -> Md2distError:
        """Says what is missing, and which archives may hold it."""
        is_unread = any(isinstance(error, KittiAccessError) for error in self._broken)
        reasons = "; ".join([*missing, *map(str, self._broken)])
        return KittiAccessError(reasons) if is_unread else KittiDataError(reasons)

    def _open(self) -> "list[_Place]":
        # A forked process would share the position in an open file with its parent.
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._places, self._broken = [], []
            for number, root in enumerate(self.roots, 1):
                self._open_root(root, f" of folder {number}" * (len(self.roots) > 1))
        return self._places

    def _open_root(self, root: Path, suffix: str) -> None:
        self._places.append(_Folder(root, f"extracted{suffix}"))
        if (root / _WRAPPER).is_dir():
            self._places.append(_Folder(root / _WRAPPER, f"extracted in {_WRAPPER}{suffix}"))
        try:
            names = sorted(entry.name for entry in _scan(root) if _is_archive(entry))
        except KittiAccessError as error:  # what is extracted there may be all that is needed
            self._broken.append(error)
            return
        for name in names:
            try:
                self._places.append(_Archive(root / name, f"in {name}{suffix}"))
            except _FAULTS as error:
                self._broken.append(_explain(f"{name}{suffix}", root / name, error))


@cache
def open_tree(*roots: Path) -> SourceTree:
    """Returns this process's own tree of some folders: jobs that come one by one share one."""
    return SourceTree(*roots)


@contextmanager
def naming_the_roots(tree: SourceTree) -> Iterator[None]:
    """Adds where a tree lies to errors over its files; the bytes of shards must not depend on it.

    Raises:
        KittiDataError: what was raised inside, with the folders.
    """
    try:
        yield
    except KittiDataError as error:
        raise KittiDataError(f"{error} (in {tree})") from None


class _Place(Protocol):
    label: str  # says where it is

    def folders(self, folder: str) -> set[str]: ...
    def files(self, folder: str) -> set[str]: ...
    def size(self, name: str) -> int | None: ...
    def read(self, name: str) -> bytes: ...


class _Folder:
    """Files on the disk."""

    def __init__(self, path: Path, label: str):
        self.path = path
        self.label = label

    def folders(self, folder: str) -> set[str]:
        return {entry.name for entry in _scan(self.path / folder) if _may_be(entry.is_dir)}

    def files(self, folder: str) -> set[str]:
        return {entry.name for entry in _scan(self.path / folder) if _may_be(entry.is_file)}

    def size(self, name: str) -> int | None:
        try:
            return (self.path / name).stat().st_size
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
        if dirname(name) not in self._folders:
            return None
        try:
            return self._zip.getinfo(self._wrapper + name).file_size
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
    if not entry.name.endswith(".zip") or entry.name.startswith("."):  # as macOS's side files
        return False
    return _may_be(lambda: not entry.is_dir())


def _may_be(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # which reading it will tell; not listed, it would count as missing
        return True


def _explain(name: str, path: Path, error: Exception) -> Md2distError:
    """Says what is wrong with an archive, or with a file in it."""
    # Where the system does not let it read, zipfile says that the file is none.
    cause = error.__context__ if isinstance(error, zipfile.BadZipFile) else error
    if isinstance(cause, _ABSENT):
        return KittiDataError(f"{name} cannot be read ({cause.strerror})")
    if isinstance(cause, OSError) and cause.errno not in _OF_DAMAGE:  # the disk's, the network's
        return _unread(path, cause)
    return KittiDataError(f"{name} is damaged ({error}); remove the archive and download it again")


def _unread(path: Path, error: OSError) -> KittiAccessError:
    return KittiAccessError(
        f"{path} cannot be read ({error.strerror}); see to its permissions or its disk, then "
        "repeat the command"
    )
