"""Downloads that resume and retry, and give a file its name only when it is whole."""

import hashlib
import os
import re
import ssl
from collections.abc import Callable
from email.message import Message
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from md2dist.data.retries import PATIENT, QUICK, Patience, retry
from md2dist.errors import DownloadError

_CHUNK = 1 << 18  # bytes
NETWORK_ERRORS = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
_RANGE_REFUSED = 416
_Result = TypeVar("_Result")


def download(
    url: str,
    path: Path,
    check: Callable[[Path], None],
    *,
    patience: Patience = PATIENT,
    on_bytes: Callable[[int], object] = lambda num_bytes: None,
) -> None:
    """Downloads a file to its place, going on where an interrupted download stopped.

    Bytes gather in ``NAME.part`` beside it. Once they are as many as the server announced, and pass
    the check, the file gets its name.

    Args:
        url: http or https address.
        path: the file's place; its folder is made.
        check: raises `DownloadError` for a file that is not the one expected.
        patience: with a server that fails or stalls.
        on_bytes: is told of bytes as they come; negative where they are forgotten again.

    Raises:
        DownloadError: if the server does not have the file, keeps failing, or sends another file;
            if it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        # Written by position, not appended: a second process would write the same bytes again.
        with part.open("r+b") as stream:
            on_bytes(stream.seek(0, os.SEEK_END))
            attempt = partial(_receive, url, stream, patience.timeout, on_bytes)
            _with_retries(attempt, url, patience, progress=stream.tell)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            check(part)
        except DownloadError as error:
            part.unlink()
            raise DownloadError(f"{url} is not the expected file: {error}") from None
        part.replace(path)
    except OSError as error:
        raise DownloadError(
            f"{path} cannot be written: {error}; make room or choose another folder"
        ) from None


def remote_size(url: str, patience: Patience = QUICK) -> int:
    """Asks a server for the size of a file, in bytes.

    Raises:
        DownloadError: if the server does not have the file, does not tell, or keeps failing.
    """

    def ask() -> Message:
        with urlopen(Request(url, method="HEAD"), timeout=patience.timeout) as response:
            return response.headers

    size = _with_retries(ask, url, patience)["Content-Length"]
    if size is None:
        raise DownloadError(f"{url}: the server does not tell the size; use another --base-url")
    return int(size)


def check_sha256(path: Path, expected: str) -> None:
    """Compares a file with its checksum.

    Raises:
        DownloadError: if they differ.
    """
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise DownloadError(f"its sha256 is {found}, expected {expected}")


def may_pass(error: Exception) -> bool:
    """Whether another try may mend what a download over HTTP failed at."""
    if isinstance(error, HTTPError):
        return error.code >= 500 or error.code in (408, 429)
    return isinstance(error, NETWORK_ERRORS)


def _with_retries(
    attempt: Callable[[], _Result],
    url: str,
    patience: Patience,
    progress: Callable[[], int] = lambda: 0,
) -> _Result:
    if not _is_address(url):
        raise DownloadError(f"{url} is no address of a file; expected http:// or https://")
    try:
        return retry(attempt, may_pass, patience, progress)
    except NETWORK_ERRORS as error:
        if isinstance(error, HTTPError) and not may_pass(error):
            raise DownloadError(
                f"{url}: the server answers {error.code} {error.reason}; check the address"
            ) from None
        raise DownloadError(
            f"{url} cannot be downloaded, tried {patience.num_tries} times: {error}; "
            "repeat the command later"
        ) from None


def _is_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:  # brackets that hold no IPv6 address
        return False


def _receive(url: str, stream: BinaryIO, timeout: float, on_bytes: Callable[[int], object]) -> None:
    """Gets what is missing at the stream's end, over one connection.

    Raises:
        ConnectionError: if the connection ends before the file does.
    """
    start = stream.seek(0, os.SEEK_END)
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(request, timeout=timeout)
    except HTTPError as error:
        if error.code != _RANGE_REFUSED or not start:
            raise
        if _content_range(error.headers)[1] != start:  # there is no such end: begin anew
            _forget(stream, on_bytes)
            _receive(url, stream, timeout, on_bytes)
        return
    with response:
        first, total = _content_range(response.headers)
        if response.status != 206:  # the whole file, asked for or not
            first, total = 0, _number(response.headers["Content-Length"])
        if first != start:
            _forget(stream, on_bytes)
            if first != 0:
                raise ConnectionError(f"asked for bytes {start} and on, got {first} and on")
        while chunk := response.read(_CHUNK):
            stream.write(chunk)
            on_bytes(len(chunk))
    if total not in (None, stream.tell()):
        raise ConnectionError(f"the connection ended after {stream.tell()} of {total} bytes")


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    """First byte and size of the file, from ``bytes 5-9/10`` or ``bytes */10``."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers["Content-Range"] or "")
    return (_number(match[1]), _number(match[2])) if match else (None, None)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _forget(stream: BinaryIO, on_bytes: Callable[[int], object]) -> None:
    on_bytes(-stream.seek(0, os.SEEK_END))
    stream.seek(0)
    stream.truncate()
