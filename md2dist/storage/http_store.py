"""Store in a folder of a web server."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse, InvalidURL
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

from md2dist.errors import ShardError
from md2dist.storage.addresses import mask_secrets, public_address
from md2dist.storage.download import is_transient
from md2dist.storage.store import CHUNK, ByteRange, StoreError
from md2dist.storage.typed_json import make_printable
from md2dist.storage.web import is_address, open_web, parse_number

_PARTIAL = 206  # status
_MISSING = (404, 410)  # statuses
_ACCESS_REFUSED = (401, 403)  # statuses
_METHOD_REFUSED = (403, 405, 501)  # statuses; 403 if a signature is valid for another method only


class _RefusedError(StoreError):
    """The server refuses the method, whether or not it has the file."""


class HttpStore:
    """Store in a folder of a web server.

    Args:
        url: address of the folder; a query, such as a signature, is kept in every request.
        timeout: s without a byte before a connection counts as broken.

    Raises:
        ShardError: if the URL is not a valid http or https address.
    """

    def __init__(self, url: str, timeout: float):
        self.url = public_address(url)
        if not is_address(url):
            raise ShardError(
                f"{self.url} is not a valid address; expected https://host/folder, with spaces and "
                "non-ASCII letters percent-encoded (%20)"
            )
        self._address = url
        self._timeout = timeout

    def read(self, name: str, byte_range: ByteRange | None = None) -> Iterator[bytes]:
        """Yields the bytes of a file, or of a part of it."""
        with self._request(name, byte_range) as response:
            if byte_range and response.status != _PARTIAL:
                raise StoreError("the server ignores the requested byte range", is_transient=True)
            missing = parse_number(response.headers["Content-Length"])
            while missing != 0 and (piece := response.read1(CHUNK)):  # what has arrived
                missing = missing and missing - len(piece)
                yield piece
            if missing:
                raise StoreError(
                    f"the connection ended {missing} bytes too early", is_transient=True
                )

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes; None if the server does not report it."""
        try:
            with self._request(name, method="HEAD") as response:
                size = response.headers["Content-Length"]
        except _RefusedError:
            with self._request(name, (0, 1)) as response:
                is_part = response.status == _PARTIAL  # "bytes 0-0/1234", or "/*"
                size = response.headers["Content-Range" if is_part else "Content-Length"]
        return parse_number((size or "").rpartition("/")[2])

    def has_ranges(self, name: str) -> bool:
        """Returns whether the server supports byte ranges, by requesting one."""
        with self._request(name, (0, 1)) as response:
            return response.status == _PARTIAL

    @contextmanager
    def _request(
        self, name: str, byte_range: ByteRange | None = None, method: str = "GET"
    ) -> Iterator[HTTPResponse]:
        address = urlsplit(self._address)
        address = address._replace(path=f"{address.path.rstrip('/')}/{quote(name)}").geturl()
        headers = {"Range": f"bytes={byte_range[0]}-{byte_range[1] - 1}"} if byte_range else {}
        try:
            with open_web(
                address, headers=headers, method=method, timeout=self._timeout
            ) as response:
                yield response
        except HTTPError as error:
            said = mask_secrets(make_printable(error.reason)[:100], self._address)
            reason = f"the server responds {error.code} {said}"
            if error.code in _ACCESS_REFUSED and self._address == self.url:
                reason += (
                    "; a password or signature is part of the address, and is not stored with a "
                    "run: give the whole address again"
                )
            if method == "HEAD" and error.code in _METHOD_REFUSED:
                raise _RefusedError(reason, is_transient=False) from None
            is_missing = error.code in _MISSING
            raise StoreError(
                reason, is_transient=is_transient(error), is_missing=is_missing
            ) from None
        except (InvalidURL, ValueError) as error:
            # Some addresses are invalid, and a server can redirect to one.
            raise StoreError(
                f"invalid address ({mask_secrets(str(error), self._address)})", is_transient=False
            ) from None
        except (OSError, HTTPException) as error:
            raise StoreError(error, is_transient=True) from None
