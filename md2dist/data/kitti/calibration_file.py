"""Calibration files of KITTI: lines ``name: numbers``."""

import math

import numpy as np

from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import KittiDataError
from md2dist.storage.bounded import decode_text


class CalibrationFile:
    """The entries of a calibration file, and of its copies in other archives.

    Args:
        tree: tree of KITTI files.
        file: name of the file in the tree.

    Raises:
        KittiDataError: if the file is missing, damaged, or no text.
        KittiAccessError: if access to it is denied.
    """

    def __init__(self, tree: SourceTree, file: str):
        self.file = file
        self._copies = [(label, self._parse(content)) for label, content in tree.read_all(file)]

    def read(self, name: str, *shape: int) -> np.ndarray:
        """Returns the numbers of an entry, float64 of a shape.

        Raises:
            KittiDataError: if it is missing, has other than as many numbers, or differs between
                copies of the file.
        """
        found = [
            (label, self._to_array(name, texts[name], shape))
            for label, texts in self._copies
            if name in texts
        ]
        if not found:
            raise self._refuse(name, shape)
        first_label, first = found[0]
        for label, array in found:
            if not np.allclose(first, array, rtol=1e-6, atol=0, equal_nan=True):
                raise KittiDataError(
                    f"{self.file}: the entry {name} {first_label} differs from that {label}; keep "
                    "one of the two files"
                )
        return first

    def _to_array(self, name: str, text: str, shape: tuple[int, ...]) -> np.ndarray:
        words = text.split()
        for word in words:
            try:
                float(word)
            except ValueError:
                raise self._refuse(
                    name, shape, f"; {word[:20]!r} is none (numbers are written as 0.5 or 5e-1)"
                ) from None
        if len(words) != math.prod(shape):
            raise self._refuse(name, shape, f"; it has {len(words)}")
        return np.array(words, np.float64).reshape(shape)

    def _refuse(self, name: str, shape: tuple[int, ...], reason: str = "") -> KittiDataError:
        return KittiDataError(
            f"{self.file}: expected an entry {name} of {math.prod(shape)} numbers{reason}"
        )

    def _parse(self, content: bytes) -> dict[str, str]:
        text = decode_text(content, f"calibration file {self.file}", KittiDataError)
        pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
        return {name.strip(): numbers for name, numbers in pairs}
