"""A folder of a web server as a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from md2dist.data.download import may_pass
from md2dist.data.fetching import CHUNK, Span, StoreError

_PARTIAL = 206  # status


class HttpStore:
    """A folder of a web server.

    Args:
        url: its address; a query, such as a signature, follows the file's name in every request.
        timeout: s without a byte before a connection counts as broken.
    """

    def __init__(self, url: str, timeout: float):
        self.url = url
        self._timeout = timeout

    def read(self, name: str, span: Span | None = None) -> Iterator[bytes]:
        """Yields the bytes of a file, or of a part of it."""
        with self._request(name, span) as response:
            if span and response.status != _PARTIAL:
                raise StoreError("the server ignores the range that is asked for", may_pass=True)
            missing = int(response.headers["Content-Length"] or 0)
            while piece := response.read(CHUNK):
                missing -= len(piece)
                yield piece
            if missing > 0:
                raise StoreError(f"the connection ended {missing} bytes too early", may_pass=True)

    def size(self, name: str) -> int | None:
        """Returns the bytes of a file; None where the server does not tell."""
        with self._request(name, method="HEAD") as response:
            length = response.headers["Content-Length"]
            return int(length) if length else None

    def has_ranges(self, name: str) -> bool:
        """Tries whether the server gives parts of files."""
        with self._request(name, (0, 1)) as response:
            return response.status == _PARTIAL

    @contextmanager
    def _request(
        self, name: str, span: Span | None = None, method: str = "GET"
    ) -> Iterator[HTTPResponse]:
        address = urlsplit(self.url)
        address = address._replace(path=f"{address.path.rstrip('/')}/{quote(name)}").geturl()
        headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
        try:
            request = Request(address, headers=headers, method=method)
            with urlopen(request, timeout=self._timeout) as response:
                yield response
        except HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            raise StoreError(reason, may_pass=may_pass(error)) from None
        except (OSError, HTTPException) as error:
            raise StoreError(error, may_pass=True) from None
