"""Downloads over HTTP that retry, resume, and name a file only once it is complete."""

import os
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from functools import partial
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from md2dist.errors import DownloadError
from md2dist.storage.atomic import publish
from md2dist.storage.hashing import hash_file
from md2dist.storage.locks import is_same_file, lock, try_lock
from md2dist.storage.retries import BACKGROUND, INTERACTIVE, RetryPolicy, retry

_CHUNK = 1 << 18  # bytes
NETWORK_ERRORS = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
_RANGE_REFUSED = 416
_Result = TypeVar("_Result")


def download(
    url: str,
    path: Path,
    check: Callable[[Path], None],
    *,
    wait: bool = False,
    retry_policy: RetryPolicy = BACKGROUND,
    on_bytes: Callable[[int], object] = lambda num_bytes: None,
) -> None:
    """Downloads a file, resuming an interrupted download.

    The bytes are written to ``NAME.part`` in the same folder. The file gets its name once it has
    the size that the server announced, and passes the check.

    Args:
        url: http or https address.
        path: the destination; its folder is created.
        check: raises `DownloadError` for a file that is not the expected one.
        wait: while another process downloads the same file, wait and use its file, instead of
            raising an error.
        retry_policy: for a server that fails or stalls.
        on_bytes: called with the number of bytes received; negative where they are discarded.

    Raises:
        DownloadError: if the server does not have the file, keeps failing, or sends another file;
            if the file cannot be written, or another process is downloading it.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written by position, not appended: where the file system has no locks, a second process
        # writes the same bytes again.
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
            is_free = try_lock(stream, required=False)
            if wait and not is_free:
                lock(stream, required=False)
            if is_same_file(stream, part) and (is_free or wait):
                on_bytes(stream.seek(0, os.SEEK_END))
                attempt = partial(_receive, url, stream, retry_policy.timeout, on_bytes)
                _with_retries(attempt, url, retry_policy, progress=stream.tell)
                stream.flush()
                try:
                    check(part)
                except DownloadError as error:
                    part.unlink()
                    raise DownloadError(f"{url} is not the expected file: {error}") from None
                publish(part, path)
                return
        if not wait:
            raise DownloadError(
                f"another process is downloading {path}; wait for it to end, then repeat the "
                "command"
            )
        if path.is_file():  # else the other process has removed a wrong file
            with suppress(DownloadError):
                check(path)
                return
    except OSError as error:
        raise DownloadError(
            f"{path} cannot be written: {error}; make room or choose another folder"
        ) from None
    download(url, path, check, wait=wait, retry_policy=retry_policy, on_bytes=on_bytes)


def remote_size(url: str, retry_policy: RetryPolicy = INTERACTIVE) -> int:
    """Requests the size of a file from a server, in bytes.

    Raises:
        DownloadError: if the server does not have the file, does not report its size, or keeps
            failing.
    """

    def request_headers() -> Message:
        request = Request(url, method="HEAD")
        with _reach(urlopen, request, timeout=retry_policy.timeout) as response:
            return response.headers

    size = parse_number(_with_retries(request_headers, url, retry_policy)["Content-Length"])
    if size is None:
        raise DownloadError(f"{url}: the server does not report the size; use another --base-url")
    return size


def check_sha256(path: Path, expected: str) -> None:
    """Checks the sha256 of a file.

    Raises:
        DownloadError: if it is another one.
    """
    found = hash_file(path)
    if found != expected:
        raise DownloadError(f"its sha256 is {found}, expected {expected}")


def is_transient(error: Exception) -> bool:
    """Returns whether a retry may succeed after this error of an HTTP request."""
    if isinstance(error, HTTPError):
        return error.code >= 500 or error.code in (408, 429)
    return isinstance(error, NETWORK_ERRORS)


def is_address(url: str) -> bool:
    """Returns whether a URL is a valid http or https address."""
    with suppress(ValueError):  # for brackets without an IPv6 address, or a port that is no number
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https")
        return bool(is_web and parts.hostname and parts.port != 0 and re.fullmatch("[!-~]+", url))
    return False


def parse_number(text: str | None) -> int | None:
    """Parses the number in a header; None if there is none."""
    return int(text) if text and text.isdecimal() else None


def _reach(action: Callable[..., _Result], *args: object, **options: object) -> _Result:
    """Calls a function in which only the network can fail, not the disk.

    Raises:
        ValueError: if the server redirects to an invalid address.
        ConnectionError: if the system reports a network fault as a plain OSError.
    """
    try:
        return action(*args, **options)
    except InvalidURL as error:  # an HTTPException, which would be retried
        raise ValueError(error) from None
    except NETWORK_ERRORS:
        raise
    except OSError as error:
        raise ConnectionError(error) from None


def _with_retries(
    attempt: Callable[[], _Result],
    url: str,
    retry_policy: RetryPolicy,
    progress: Callable[[], int] = lambda: 0,
) -> _Result:
    expected = (
        "expected http:// or https://, with spaces and non-ASCII letters percent-encoded (%20, "
        "%C3%A9)"
    )
    if not is_address(url):
        raise DownloadError(f"{url} is not a valid address; {expected}")
    try:
        return retry(attempt, is_transient, retry_policy, progress)
    except NETWORK_ERRORS as error:
        if isinstance(error, HTTPError) and not is_transient(error):
            raise DownloadError(
                f"{url}: the server responds {error.code} {error.reason}; check the address"
            ) from None
        raise DownloadError(
            f"{url} cannot be downloaded, tried {retry_policy.num_tries} times: {error}; "
            "repeat the command later"
        ) from None
    except ValueError as error:  # its host cannot be encoded, or the server redirects to such a one
        raise DownloadError(f"{url} leads to an invalid address ({error}); {expected}") from None


def _receive(url: str, stream: BinaryIO, timeout: float, on_bytes: Callable[[int], object]) -> None:
    """Appends the missing bytes to a stream, over one connection.

    Raises:
        ConnectionError: if the connection ends before the file is complete.
    """
    start = stream.seek(0, os.SEEK_END)
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = _reach(urlopen, request, timeout=timeout)
    except HTTPError as error:
        if error.code != _RANGE_REFUSED or not start:
            raise
        if _content_range(error.headers)[1] != start:  # the part is too long: start again
            _forget(stream, on_bytes)
            _receive(url, stream, timeout, on_bytes)
        return
    with response:
        first, total = _content_range(response.headers)
        if response.status != 206:  # the whole file, even if a range was requested
            first, total = 0, parse_number(response.headers["Content-Length"])
        if first != start:
            _forget(stream, on_bytes)
            if first != 0:
                raise ConnectionError(f"requested bytes {start}-, received bytes {first}-")
        while chunk := _reach(response.read, _CHUNK):
            stream.write(chunk)
            on_bytes(len(chunk))
    if total not in (None, stream.tell()):
        raise ConnectionError(f"the connection ended after {stream.tell()} of {total} bytes")


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    """Returns first byte and file size of a header ``bytes 5-9/10`` or ``bytes */10``."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers["Content-Range"] or "")
    return (parse_number(match[1]), parse_number(match[2])) if match else (None, None)


def _forget(stream: BinaryIO, on_bytes: Callable[[int], object]) -> None:
    on_bytes(-stream.seek(0, os.SEEK_END))
    stream.seek(0)
    stream.truncate()
