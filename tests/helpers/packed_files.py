"""The files of a finished packing."""

from pathlib import Path

from md2dist.data.packing.finished import FINISHED_NAME


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of a data set's files by name; nothing else is in the folder."""
    hidden = [path.name for path in folder.glob(".*")]
    assert hidden in ([], [FINISHED_NAME]), hidden
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}
