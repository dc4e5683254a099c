"""Kinds of files that are taken for weight files, recognised by their first bytes."""

from pathlib import Path
from struct import unpack
from zipfile import BadZipFile, ZipFile

_NUM_BYTES = 512
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script")
_MAGICS = {
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself with git lfs pull",
    b"PK\x05\x06": "an empty zip archive; copy or download it again",
    b"\x1f\x8b": "compressed by gzip; decompress it",
    b"BZh": "compressed by bzip2; decompress it",
    b"\xfd7zXZ\0": "compressed by xz; decompress it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; extract it",
    b"Rar!": "a RAR archive; extract it",
    b"\x89PNG": "a PNG image; pass the weights",
    b"\xff\xd8\xff": "a JPEG image; pass the weights",
    b"%PDF": "a PDF document; pass the weights",
    b"\x89HDF": "an HDF5 file, as Keras writes; expected weights of PyTorch",
    b"\x93NUMPY": "a NumPy array; expected weights of PyTorch",
    b"\x12\x01\0\0\0\0\0\0": "a parameter file of MXNet (GluonCV); expected weights of PyTorch",
}


def describe_foreign(path: Path) -> str | None:
    """Describes a file that is surely no weight file, and what to do; None for others.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_NUM_BYTES)
    if not head:
        return "empty; copy or download it again"
    if not any(head):
        return "nothing but zeros at its beginning; copy or download it again"
    for magic, kind in _MAGICS.items():
        if head.startswith(magic):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _describe_zip(path)
    if head[257:262] == b"ustar":
        return "a tar archive; extract it"
    if is_safetensors(path):
        return None
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(_PAGES):
        return "a web page, as for a login or a warning; download the file itself"
    if start.startswith(b"<?xml"):
        return "an XML document, as servers send for errors; download the file itself"
    return _describe_text(head)


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the size of a JSON header, then the header.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(9)
    return (
        len(head) == 9 and head[8:] == b"{" and unpack("<Q", head[:8])[0] <= path.stat().st_size - 8
    )


def _describe_zip(path: Path) -> str | None:
    """Describes a zip archive that is none of `torch.save`; None for a damaged one."""
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (BadZipFile, ValueError, RuntimeError):  # the last for a later version of zip
        return None
    files = {name.rpartition("/")[2] for name in names}
    if "data.pkl" in files:
        if "constants.pkl" in files:
            return "a TorchScript program; save the state_dict of its model instead"
        return None
    shown = ", ".join(ascii(name)[1:-1][:40] for name in names[:3])
    return f"a zip archive of other files ({shown}); extract it, and pass the folder of its weights"


def _describe_text(head: bytes) -> str | None:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else it is a letter that the limit cuts
            return None
        text = head[: error.start].decode()
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    return f"a text that begins with {text.strip()[:30]!a}; copy or download it again"
