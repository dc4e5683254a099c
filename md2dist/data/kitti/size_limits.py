"""Largest files of KITTI that are read into memory, several times what KITTI has."""

from posixpath import splitext

from md2dist.errors import KittiDataError

_MAX_BYTES = 64 << 20  # of an image or a laser scan; KITTI's have 1 and 2 MB
_MAX_TEXT = 1 << 20  # of a calibration or a navigation record; KITTI's have 5 kB
# Of an archive; that of the annotated depth has a directory of 15 MB with 93,000 files.
MAX_DIRECTORY = 64 << 20  # bytes
MAX_MEMBERS = 400_000
MAX_FOLDERS = 50_000
MAX_NAME_PARTS = 20  # of a member's name


def check_size(name: str, num_bytes: int) -> None:
    """Checks the size of a file before it is read.

    Args:
        name: name of the file; its suffix determines the limit.
        num_bytes: its size.

    Raises:
        KittiDataError: if it is larger than any such file can be.
    """
    limit = _MAX_TEXT if splitext(name)[1] == ".txt" else _MAX_BYTES
    if num_bytes > limit:
        raise KittiDataError(
            f"{name} has {num_bytes} bytes, expected at most {limit}; extract or download it again"
        )
