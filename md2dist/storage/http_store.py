"""A folder of a web server as a store."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse, InvalidURL
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from md2dist.errors import ShardError
from md2dist.storage.download import is_address, is_transient, parse_number
from md2dist.storage.store import CHUNK, ByteRange, StoreError

_PARTIAL = 206  # status
_MISSING = (404, 410)  # statuses
_METHOD_REFUSED = (403, 405, 501)  # statuses; 403 where a signature holds for another method


class _RefusedError(StoreError):
    """The server does not answer questions of this kind, whatever it has."""


class HttpStore:
    """A folder of a web server.

    Args:
        url: its address; a query, such as a signature, follows the file's name in every request.
        timeout: s without a byte before a connection counts as broken.

    Raises:
        ShardError: if the address is not that of a web server.
    """

    def __init__(self, url: str, timeout: float):
        if not is_address(url):
            raise ShardError(
                f"{url} is no address of a web server; expected https://host/folder, where blanks "
                "and letters outside ASCII are written as %20 and the like"
            )
        self.url = url
        self._timeout = timeout

    def read(self, name: str, byte_range: ByteRange | None = None) -> Iterator[bytes]:
        """Yields the bytes of a file, or of a part of it."""
        with self._request(name, byte_range) as response:
            if byte_range and response.status != _PARTIAL:
                raise StoreError(
                    "the server ignores the range that is asked for", is_transient=True
                )
            missing = parse_number(response.headers["Content-Length"]) or 0
            while piece := response.read(CHUNK):
                missing -= len(piece)
                yield piece
            if missing > 0:
                raise StoreError(
                    f"the connection ended {missing} bytes too early", is_transient=True
                )

    def size(self, name: str) -> int | None:
        """Returns the bytes of a file; None where the server does not tell."""
        try:
            with self._request(name, method="HEAD") as response:
                size = response.headers["Content-Length"]
        except _RefusedError:
            with self._request(name, (0, 1)) as response:
                is_part = response.status == _PARTIAL  # "bytes 0-0/1234", or "/*"
                size = response.headers["Content-Range" if is_part else "Content-Length"]
        found = re.search(r"\d+$", size or "")
        return int(found[0]) if found else None

    def has_ranges(self, name: str) -> bool:
        """Tries whether the server gives parts of files."""
        with self._request(name, (0, 1)) as response:
            return response.status == _PARTIAL

    @contextmanager
    def _request(
        self, name: str, byte_range: ByteRange | None = None, method: str = "GET"
    ) -> Iterator[HTTPResponse]:
        address = urlsplit(self.url)
        address = address._replace(path=f"{address.path.rstrip('/')}/{quote(name)}").geturl()
        headers = {"Range": f"bytes={byte_range[0]}-{byte_range[1] - 1}"} if byte_range else {}
        try:
            request = Request(address, headers=headers, method=method)
            with urlopen(request, timeout=self._timeout) as response:
                yield response
        except HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if method == "HEAD" and error.code in _METHOD_REFUSED:
                raise _RefusedError(reason, is_transient=False) from None
            is_missing = error.code in _MISSING
            raise StoreError(
                reason, is_transient=is_transient(error), is_missing=is_missing
            ) from None
        except (InvalidURL, ValueError) as error:
            # Not every address can be asked for, and a server can redirect to a malformed one.
            raise StoreError(error, is_transient=False) from None
        except (OSError, HTTPException) as error:
            raise StoreError(error, is_transient=True) from None
