"""Numbers of NumPy in pickled files, read as Python's; nothing of NumPy is called."""

from pickle import UnpicklingError
from struct import unpack
from typing import Any

_CODES = {  # of NumPy and of the module struct
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


class _NumberType:
    """Stands for `numpy.dtype`: the type of a number, and the order of its bytes."""

    def __init__(self, code: Any, *options: Any):
        self._code, self._order = _CODES.get(code), "<"

    def __setstate__(self, state: Any) -> None:
        self._order = ">" if state[1] == ">" else "<"

    def read(self, content: bytes) -> Any:
        """Returns the number with these bytes."""
        if self._code is None:
            raise UnpicklingError("not a number")
        return unpack(self._order + self._code, content)[0]


def _read_number(dtype: _NumberType, content: bytes) -> Any:
    """Stands for the function that makes a number of NumPy."""
    return dtype.read(content)


NUMBERS = [  # for `torch.serialization.safe_globals`
    (_NumberType, "numpy.dtype"),
    (_read_number, "numpy.core.multiarray.scalar"),
    (_read_number, "numpy._core.multiarray.scalar"),
]
