"""Read-only view of KITTI's files in folders and in zip archives, which stay packed."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from md2dist.data.kitti.opening import Opened, open_root, search_root
from md2dist.data.kitti.places import Place
from md2dist.data.kitti.size_limits import check_size
from md2dist.errors import KittiAccessError, KittiDataError, Md2distError


class SourceTree:
    """The KITTI files in some folders and archives, by their names in the published layout.

    A name is e.g. ``2011_09_26/calib_cam_to_cam.txt``. A file comes first from its published path
    below a root, or from an archive that is a root or directly in one, with any folders around the
    content of the archive. What is missing there is searched in the folders of the roots: the
    parts of drives and sequences, the calibrations and archives, in any folders (`search`). A
    folder of a drive that is present twice in equal rank is an error.

    Roots are opened and searched on first use, and of archives only the directories are read. A
    tree can be pickled; each process opens the archives itself.

    Args:
        *roots: the folders, or single archives.
    """

    def __init__(self, *roots: str | Path):
        self.roots = tuple(map(Path, roots))
        self._owner = 0  # id of the process that opened the places
        self._direct: list[Opened] = []  # by root
        self._found: list[Opened] | None = None  # by root; None: not searched yet
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
        direct, found = self._levels()
        if self._errors():
            raise self._refuse()
        places = [*direct, *found] if self.is_searched() else direct  # never some of the drives
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
        return next((size for _, size in self._find(name)), None)

    def stamp(self, name: str) -> str | None:
        """Returns a text that changes with a file's content; None if there is no such file.

        It is made of size, time of modification and time of the last change of its entry (which a
        copy that keeps the former sets) in ns; in an archive, of size and CRC-32.

        Raises:
            KittiAccessError: if access to the file is denied.
        """
        return next((place.stamp(name) for place, _ in self._find(name)), None)

    def read(self, name: str) -> bytes:
        """Reads a file from its folder, else from the first archive by name that holds it.

        Raises:
            KittiDataError: if the file is missing, damaged or too large.
            KittiAccessError: if access to the file, or to an archive that may hold it, is denied.
        """
        return self._read(name, self._find(name)[:1])[0][1]

    def read_all(self, name: str) -> list[tuple[str, bytes]]:
        """Reads all files of a name that have equal rank; `read` returns the first.

        Returns:
            The location of each, for messages, and its content.

        Raises:
            Errors of `read`.
        """
        return self._read(name, self._find(name))

    def contents(self) -> dict[Path, set[str]]:
        """Returns what a search finds in each root, by its published names.

        They are those of the folders in drives, of sequences, and of calibration files.
        """
        _, _ = self._levels()
        pairs = zip(self.roots, self._direct, self._found or (), strict=True)
        return {
            root: {found.name for opened in both for found in opened.found} for root, *both in pairs
        }

    def is_searched(self) -> bool:
        """Whether all folders of the roots were searched; false if there are too many."""
        _, _ = self._levels()
        return all(opened.is_complete for opened in self._found or ())

    def _find(self, name: str) -> list[tuple[Place, int]]:
        """Returns the places that hold a file, of equal rank, and its sizes."""
        for level in self._levels():
            sizes = [(place, place.size(name)) for place in level]
            homes = [(place, size) for place, size in sizes if size is not None]
            if homes:
                return homes
        return []

    def _read(self, name: str, homes: list[tuple[Place, int]]) -> list[tuple[str, bytes]]:
        if not homes:
            raise self._refuse(f"no file {name}; download the archive that holds it")
        for _, size in homes:
            check_size(name, size)
        return [(place.label, place.read(name)) for place, _ in homes]

    def _list_files(self, folder: str) -> set[str]:
        for level in self._levels():
            homes = [(place.label, names) for place in level if (names := place.files(folder))]
            if len(homes) > 1:
                labels = " and ".join(label for label, _ in homes)
                raise KittiDataError(
                    f"duplicate drive: {folder} is present {labels}; keep one of them"
                )
            if homes:
                return homes[0][1]
        if self._errors():
            raise self._refuse(f"no folder {folder}")
        return set()

    def _refuse(self, *missing: str) -> Md2distError:
        """Returns the error for a missing file, with the unread archives that may hold it."""
        errors = self._errors()
        is_unread = any(isinstance(error, KittiAccessError) for error in errors)
        reasons = "; ".join([*missing, *map(str, errors)])
        return KittiAccessError(reasons) if is_unread else KittiDataError(reasons)

    def _levels(self) -> Iterator[Sequence[Place]]:
        """Yields the places of published names, then those that a search finds."""
        # A forked process would share the position in an open file with its parent.
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._direct, self._found = [open_root(*root) for root in self._numbered_roots()], None
        yield [place for opened in self._direct for place in opened.places]
        if self._found is None:
            self._found = [search_root(*root) for root in self._numbered_roots()]
        yield [place for opened in self._found for place in opened.places]

    def _errors(self) -> list[Md2distError]:
        """Returns the errors of the places that were opened."""
        return [
            error for opened in [*self._direct, *(self._found or ())] for error in opened.errors
        ]

    def _numbered_roots(self) -> Iterator[tuple[Path, str]]:
        for number, root in enumerate(self.roots, 1):
            yield root, f" (folder {number})" * (len(self.roots) > 1)


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
