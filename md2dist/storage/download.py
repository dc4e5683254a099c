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

from md2dist.errors import DownloadError
from md2dist.storage.addresses import mask_secrets, public_address
from md2dist.storage.atomic import publish
from md2dist.storage.hashing import hash_file
from md2dist.storage.locks import is_same_file, lock, try_lock
from md2dist.storage.retries import BACKGROUND, INTERACTIVE, RetryPolicy, retry
from md2dist.storage.transfer import (
    TooManyBytesError,
    Transfer,
    TransferError,
    limit,
    run_transfer,
)
from md2dist.storage.typed_json import make_printable
from md2dist.storage.web import is_address, open_web, parse_number

_CHUNK = 1 << 18  # bytes
NETWORK_ERRORS = (
    URLError,
    HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    TransferError,
)
_RANGE_REFUSED = 416
_FREE_TRIES, _BYTES_PER_TRY = 100, 1 << 16  # a server that always sends a few bytes is given up
_Result = TypeVar("_Result")


def download(
    url: str,
    path: Path,
    check: Callable[[Path], None],
    *,
    max_bytes: int,
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
        max_bytes: a larger file is refused.
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
                receiver = _Receiver(url, stream, max_bytes, retry_policy.timeout, on_bytes)
                try:
                    _with_retries(receiver.receive, url, retry_policy, progress=stream.tell)
                    stream.flush()
                    fault = _find_fault(part, check)
                except TooManyBytesError as error:
                    fault = str(error)
                if fault:
                    part.unlink()
                    raise DownloadError(f"{public_address(url)} is not the expected file: {fault}")
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
    download(
        url,
        path,
        check,
        max_bytes=max_bytes,
        wait=wait,
        retry_policy=retry_policy,
        on_bytes=on_bytes,
    )


def _find_fault(path: Path, check: Callable[[Path], None]) -> str:
    try:
        check(path)
    except DownloadError as error:
        return str(error)
    return ""


def remote_size(url: str, retry_policy: RetryPolicy = INTERACTIVE) -> int:
    """Requests the size of a file from a server, in bytes.

    Raises:
        DownloadError: if the server does not have the file, does not report its size, or keeps
            failing.
    """

    def request_headers(transfer: Transfer) -> Message:
        with _reach(open_web, url, method="HEAD", timeout=retry_policy.timeout) as response:
            return response.headers

    size = parse_number(_with_retries(request_headers, url, retry_policy)["Content-Length"])
    if size is None:
        raise DownloadError(
            f"{public_address(url)}: the server does not report the size; use another --base-url"
        )
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
    return isinstance(error, NETWORK_ERRORS) and not isinstance(error, TooManyBytesError)


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
    request: Callable[[Transfer], _Result],
    url: str,
    retry_policy: RetryPolicy,
    progress: Callable[[], int] = lambda: 0,
) -> _Result:
    expected = (
        "expected http:// or https://, with spaces and non-ASCII letters percent-encoded (%20, "
        "%C3%A9)"
    )
    shown = public_address(url)
    if not is_address(url):
        raise DownloadError(f"{shown} is not a valid address; {expected}")
    try:
        attempt = partial(run_transfer, request, retry_policy.timeout)
        return retry(attempt, is_transient, retry_policy, progress, what=shown)
    except (TooManyBytesError, DownloadError):
        raise
    except NETWORK_ERRORS as error:
        if isinstance(error, HTTPError) and not is_transient(error):
            reason = mask_secrets(make_printable(error.reason)[:100], url)
            raise DownloadError(
                f"{shown}: the server responds {error.code} {reason}; check the address"
            ) from None
        raise DownloadError(
            f"{shown} cannot be downloaded, tried {retry_policy.num_tries} times: "
            f"{mask_secrets(make_printable(str(error)), url)}; repeat the command later"
        ) from None
    except ValueError as error:  # its host cannot be encoded, or the server redirects to such a one
        raise DownloadError(
            f"{shown} leads to an invalid address ({mask_secrets(str(error), url)}); {expected}"
        ) from None


class _Receiver:
    """Appends the missing bytes of a file to a stream.

    Args:
        url: address of the file.
        stream: the bytes that have arrived, open for writing.
        max_bytes: limit of the file.
        timeout: s without a byte before a connection counts as broken.
        on_bytes: called with the number of bytes received, or discarded if negative.
    """

    def __init__(
        self,
        url: str,
        stream: BinaryIO,
        max_bytes: int,
        timeout: float,
        on_bytes: Callable[[int], object],
    ):
        self._url, self._stream, self._max_bytes = url, stream, max_bytes
        self._timeout, self._on_bytes = timeout, on_bytes
        self._num_tries = 0

    def receive(self, transfer: Transfer) -> None:
        """Receives the missing bytes over one connection.

        Raises:
            ConnectionError: if the connection ends before the file is complete.
            TooManyBytesError: if the file is larger than allowed.
            DownloadError: if most connections have ended after a few bytes.
        """
        stream = self._stream
        transfer.take(b"", lambda nothing: stream.seek(0, os.SEEK_END))
        start = stream.tell()
        self._num_tries += 1
        if self._num_tries > _FREE_TRIES + start // _BYTES_PER_TRY:
            raise DownloadError(
                f"{self._url} cannot be downloaded: its server has ended {self._num_tries - 1} "
                f"connections after a few bytes each; repeat the command later"
            )
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            response = _reach(open_web, self._url, headers=headers, timeout=self._timeout)
        except HTTPError as error:
            if error.code != _RANGE_REFUSED or not start:
                raise
            if _content_range(error.headers)[1] != start:  # the part is too long: start again
                transfer.take(b"", self._forget)
                self.receive(transfer)
            return
        with response:
            first, total = _content_range(response.headers)
            if response.status != 206:  # the whole file, even if a range was requested
                first, total = 0, parse_number(response.headers["Content-Length"])
            if total is not None and total > self._max_bytes:
                raise TooManyBytesError(f"it has {total} bytes, more than {self._max_bytes}")
            if first != start:
                transfer.take(b"", self._forget)
                if first != 0:
                    raise ConnectionError(f"requested bytes {start}-, received bytes {first}-")
            pieces = iter(partial(_reach, response.read1, _CHUNK), b"")
            for piece in limit(pieces, self._max_bytes - stream.tell()):
                transfer.take(piece, self._append)
        if total not in (None, stream.tell()):
            raise ConnectionError(f"the connection ended after {stream.tell()} of {total} bytes")

    def _append(self, piece: bytes) -> None:
        self._stream.write(piece)
        self._on_bytes(len(piece))

    def _forget(self, nothing: bytes) -> None:
        self._on_bytes(-self._stream.seek(0, os.SEEK_END))
        self._stream.seek(0)
        self._stream.truncate()


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    """Returns first byte and file size of a header ``bytes 5-9/10`` or ``bytes */10``."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers["Content-Range"] or "")
    return (parse_number(match[1]), parse_number(match[2])) if match else (None, None)
