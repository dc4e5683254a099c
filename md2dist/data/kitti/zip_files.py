"""Files in zip archives, which stay packed, by their names in the published layout."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname
from typing import Any

from md2dist.data.kitti.finder import Listing, is_archive, search
from md2dist.data.kitti.places import explain_fault
from md2dist.data.kitti.size_limits import (
    MAX_DIRECTORY,
    MAX_FOLDERS,
    MAX_MEMBERS,
    MAX_NAME_PARTS,
    check_size,
)
from md2dist.errors import KittiDataError

FAULTS = (  # raised by zipfile if archives are damaged or cannot be read
    OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
_OF_MEMBER = b"PK\x01\x02"  # begins the entry of a member in the directory
_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstandard"}


class Archive:
    """Files in a zip archive; of the archive, only its directory is read.

    Args:
        path: the archive on the disk.
        label: location, for messages.
        content: an archive inside of it, instead of the archive itself.
        top: name of the archive without its suffix.

    Attributes:
        found: KITTI's folders and files in it.

    Raises:
        KittiDataError: if the names in it are contradictory.
        OSError, ValueError, ...: one of `FAULTS`, if it cannot be read.
    """

    def __init__(
        self, path: Path, label: str, content: io.RawIOBase | None = None, top: str | None = None
    ):
        self.path = path
        self.label = label
        self.top = path.stem if top is None else top
        stream = content or path.open("rb", buffering=0)
        self._zip = zipfile.ZipFile(_BoundedReader(stream, path.name))
        self._members: dict[str, dict[str, zipfile.ZipInfo]] = {}  # by folder and name
        self._parents: dict[str, set[str]] = {}  # names of the folders in a folder
        names = [(_clean(info, label), info) for info in self._zip.infolist() if _is_file(info)]
        for name, info in names:
            self._add(name, info)
        self.found = search(self, max_entries=MAX_MEMBERS).found
        renamed = {path: name for name, path in self.found}
        renamed |= {folder: _rename(folder, renamed) for folder in self._members}
        self._members, self._parents = {}, {}
        for name, info in names:
            self._add(_rename(name, renamed), info)

    def identify(self, folder: str) -> object:
        """Returns what is the same for all paths to a folder: its name."""
        return folder

    def list(self, folder: str, limit: int) -> Listing:
        """Lists a folder; the limit does not count, since all names are in memory."""
        return Listing(self.folders(folder), self.files(folder))

    def folders(self, folder: str) -> set[str]:
        """Lists the names of the folders in a folder; empty if it does not exist."""
        return self._parents.get(folder, set())

    def files(self, folder: str) -> set[str]:
        """Lists the names of the files in a folder; empty if it does not exist."""
        return set(self._members.get(folder, ()))

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes; None if there is no such file."""
        info = self._find(name)
        return info and info.file_size

    def stamp(self, name: str) -> str | None:
        """Returns a text that changes with a file's content; None if there is no such file."""
        found = self._find(name)
        return found and f"{found.file_size} {found.CRC:08x}"

    def read(self, name: str) -> bytes:
        """Reads a file."""
        info = self._find(name)
        if info is None:
            raise KittiDataError(f"no file {name} {self.label}")
        _check_method(info, f"{name} {self.label}")
        check_size(name, max(info.file_size, info.compress_size))
        try:
            with self._zip.open(info) as stream:
                return stream.read(info.file_size)  # even if it unpacks to more
        except FAULTS as error:
            raise explain_fault(f"{name} {self.label}", self.path, error) from None

    def open_archives(self) -> Iterator["Archive"]:
        """Opens the archives in this one.

        Raises:
            KittiDataError: if one is compressed, so that it cannot be read piece by piece, or holds
                archives itself.
            OSError, ValueError, ...: one of `FAULTS`, if one cannot be read.
        """
        for name, info in self._archives():
            is_plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
            if is_plain:
                content = _Part(self.path, self._zip, info)
                inner = Archive(self.path, f"in {name} {self.label}", content, name[:-4])
                is_plain = not any(inner._archives())
                yield inner
            if not is_plain:
                raise KittiDataError(
                    f"{self.path.name} holds archives in compressed form, such as {name}; extract "
                    f"{self.path.name}, but not the archives in it"
                )

    def _archives(self) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        for folder, members in self._members.items():
            if "__MACOSX" not in folder:
                yield from ((name, info) for name, info in members.items() if is_archive(name))

    def _add(self, name: str, info: zipfile.ZipInfo) -> None:
        folder, _, file = name.rpartition("/")
        is_new = folder not in self._members
        first = self._members.setdefault(folder, {}).setdefault(file, info)
        if (first.CRC, first.file_size) != (info.CRC, info.file_size):
            raise KittiDataError(
                f"{self.path.name} holds {name} twice, with different contents; keep one of them"
            )
        if len(self._members) > MAX_FOLDERS:
            raise _refuse_directory(self.path.name, f"{MAX_FOLDERS} folders")
        while folder and is_new:
            parent, _, below = folder.rpartition("/")
            self._parents.setdefault(parent, set()).add(below)
            folder = parent

    def _find(self, name: str) -> zipfile.ZipInfo | None:
        folder, _, file = name.rpartition("/")
        return self._members.get(folder, {}).get(file)


class _BoundedReader(io.BufferedReader):
    """Reads an archive; refuses a directory that is larger than expected."""

    def __init__(self, raw: io.RawIOBase, archive: str):
        super().__init__(raw)
        self._archive = archive

    def read(self, size: int | None = -1) -> bytes:
        if size and size > MAX_DIRECTORY:
            raise _refuse_directory(self._archive, f"{MAX_DIRECTORY} bytes")
        content = super().read(size)
        if content.count(_OF_MEMBER) > MAX_MEMBERS:
            raise _refuse_directory(self._archive, f"{MAX_MEMBERS} files")
        return content


class _Part(io.RawIOBase):
    """A member that is stored without compression, as a file."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo):
        self._file = path.open("rb")
        with archive.open(info) as stream:  # checks the header before the content
            stream.read(1)
        self._file.seek(info.header_offset + 26)
        self._start = info.header_offset + 30 + sum(struct.unpack("<HH", self._file.read(4)))
        self._size = min(info.file_size, info.compress_size)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise OSError("seek before the start")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._file.seek(self._start + self._position)
        content = self._file.read(min(len(view), max(0, self._size - self._position)))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)


def _is_file(info: zipfile.ZipInfo) -> bool:
    """Returns whether a member is a file, and no dot file such as `._NAME.png` of macOS."""
    name = info.filename.replace("\\", "/").rpartition("/")[2]
    return bool(name) and not name.startswith(".")


def _refuse_directory(archive: str, limit: str) -> KittiDataError:
    return KittiDataError(
        f"{archive} has a directory of more than {limit}; extract it, or split it into several"
    )


def _check_method(info: zipfile.ZipInfo, name: str) -> None:
    if info.flag_bits & 1:
        raise KittiDataError(f"{name} is encrypted; extract the archive with its password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = _METHODS.get(info.compress_type, f"method {info.compress_type}")
        raise KittiDataError(
            f"{name} is compressed by {method}; expected deflate: extract the archive"
        )


def _clean(info: zipfile.ZipInfo, label: str) -> str:
    """Returns a member's name without ``./``, leading slashes and backslashes."""
    parts = [part for part in info.filename.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts or not 0 < len(parts) <= MAX_NAME_PARTS:
        raise KittiDataError(
            f"the file name {info.filename[:200]!r} {label} is not valid; pack the archive again, "
            f"with names below its top folder and at most {MAX_NAME_PARTS} folders deep"
        )
    return "/".join(parts)


def _rename(name: str, renamed: dict[str, str]) -> str:
    """Replaces the start of a member's name by that of the published layout."""
    start = name
    while start and start not in renamed:
        start = dirname(start)
    rest = name[len(start) :].lstrip("/")
    return f"{renamed[start]}/{rest}".strip("/") if start in renamed else name
