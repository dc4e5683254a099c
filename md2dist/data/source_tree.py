"""A read-only tree of files, wherever they lie: in folders, and in zip archives nobody unpacks."""

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from posixpath import dirname
from typing import Protocol

from md2dist.errors import KittiError

_WRAPPER = "dataset"  # the folder around everything in the archives of KITTI odometry
_FAULTS = (  # what zipfile raises over archives that are damaged or cannot be read
    OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


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
        self._broken: list[str] = []  # archives, and what is wrong with them
        self._files: dict[str, set[str]] = {}  # by folder, as they were at the first look

    def __reduce__(self):
        return open_tree, self.roots

    def __str__(self) -> str:
        return ", ".join(map(str, self.roots))

    def folders(self, folder: str = "") -> list[str]:
        """Lists the names of the folders in a folder, which need not exist.

        Raises:
            KittiError: if an archive is broken, since it may hold any folder.
        """
        places = self._open()
        if self._broken:
            raise KittiError("; ".join(self._broken))
        return sorted(set().union(*(place.folders(folder) for place in places)))

    def files(self, folder: str) -> set[str]:
        """Lists the names of the files in a folder, which need not exist.

        Raises:
            KittiError: if they lie in two places, or perhaps in a broken archive.
        """
        if folder not in self._files:
            self._files[folder] = self._list_files(folder)
        return self._files[folder]

    def size(self, name: str) -> int | None:
        """Tells the size of a file in bytes; None where there is no such file."""
        sizes = (place.size(name) for place in self._open())
        return next((size for size in sizes if size is not None), None)

    def read(self, name: str) -> bytes:
        """Reads a file: from its folder, else from the first archive by name that holds it.

        Raises:
            KittiError: if there is no such file, or it cannot be read.
        """
        for place in self._open():
            if place.size(name) is not None:
                return place.read(name)
        missing = f"no file {name}; download the archive that holds it"
        raise KittiError("; ".join([missing, *self._broken]))

    def _list_files(self, folder: str) -> set[str]:
        homes = [(place.label, names) for place in self._open() if (names := place.files(folder))]
        if len(homes) > 1:
            labels = " and ".join(label for label, _ in homes)
            raise KittiError(
                f"two drives of one name: {folder} is there {labels}; keep one of them"
            )
        if not homes and self._broken:
            raise KittiError(f"no folder {folder}; but {'; '.join(self._broken)}")
        return set().union(*(names for _, names in homes))

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
        for path in sorted(root.glob("*.zip")):
            try:
                self._places.append(_Archive(path, f"in {path.name}{suffix}"))
            except _FAULTS as error:
                self._broken.append(f"{path.name}{suffix} {_explain(error)}")


@cache
def open_tree(*roots: Path) -> SourceTree:
    """Returns this process's own tree of some folders: jobs that come one by one share one."""
    return SourceTree(*roots)


@contextmanager
def telling_place(tree: SourceTree) -> Iterator[None]:
    """Adds where a tree lies to errors over its files; the bytes of shards must not depend on it.

    Raises:
        KittiError: what was raised inside, with the folders.
    """
    try:
        yield
    except KittiError as error:
        raise KittiError(f"{error} (in {tree})") from None


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
        return {entry.name for entry in self._scan(folder) if entry.is_dir()}

    def files(self, folder: str) -> set[str]:
        return {entry.name for entry in self._scan(folder) if entry.is_file()}

    def size(self, name: str) -> int | None:
        try:
            return (self.path / name).stat().st_size
        except OSError:
            return None

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise KittiError(f"{name} cannot be read ({error.strerror})") from None

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.path / folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise KittiError(f"folder {folder} cannot be read ({error.strerror})") from None


class _Archive:
    """Files in a zip archive."""

    def __init__(self, path: Path, label: str):
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
            raise KittiError(f"{name} {self.label} {_explain(error)}") from None


def _explain(error: Exception) -> str:
    if isinstance(error, OSError):  # of the disk or the network, not of the archive
        return f"cannot be read ({error.strerror})"
    return f"is damaged ({error}); remove the archive and download it again"
