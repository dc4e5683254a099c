"""Requests to web servers, of which nothing is trusted: not the answer, nor where it redirects."""

import base64
import re
import ssl
from contextlib import suppress
from functools import cache
from http.client import HTTPResponse
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from md2dist.storage.web.connections import KeptHttpHandler, KeptHttpsHandler

_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)  # statuses
_MOST_DIGITS = 18  # of a number in a header


def is_address(url: str) -> bool:
    """Returns whether a URL is a valid http or https address."""
    with suppress(
        ValueError
    ):  # for brackets without an IPv6 address, or a port that is not a number
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https")
        return bool(is_web and parts.hostname and parts.port != 0 and re.fullmatch("[!-~]+", url))
    return False


def parse_number(text: str | None) -> int | None:
    """Parses the number in a header; None if there is none."""
    is_number = text and text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if text and is_number else None


def open_web(
    url: str, *, headers: dict[str, str] | None = None, method: str = "GET", timeout: float
) -> HTTPResponse:
    """Sends a request and follows redirects to other web addresses.

    The connection is kept for the next request if the answer is read to its end, then closed. A
    user and a password in the address are sent as basic authentication, to its server only.

    Args:
        url: a valid http or https address.
        headers: of the request.
        method: GET or HEAD.
        timeout: s without a byte before the connection counts as broken.

    Raises:
        HTTPError: if the answer is an error, or redirects too often.
        OSError: if the server cannot be reached.
        HTTPException: if its answer is not HTTP.
        ValueError: if it redirects to an invalid address.
    """
    login = None
    for _ in range(_MOST_REDIRECTS):
        parts = urlsplit(url)
        login = _login(parts) or login
        request = Request(_without_login(parts), headers=headers or {}, method=method)
        if login:
            request.add_header("Authorization", login)
        try:
            return _opener().open(request, timeout=timeout)
        except HTTPError as error:
            error.close()  # its body is not read
            target = error.headers["Location"] if error.code in _REDIRECTS else None
            if not target:
                raise
            answer = error
        with suppress(ValueError):
            target = urljoin(url, target)
        if not is_address(target):
            raise ValueError("of a redirect")
        url = target
        if _origin(urlsplit(url)) != _origin(parts):
            login = None
    raise HTTPError(url, answer.code, "too many redirects", answer.headers, None)


@cache
def _opener() -> OpenerDirector:
    """Opens http and https only, and raises redirects as errors."""
    opener = OpenerDirector()
    web = (KeptHttpHandler(), KeptHttpsHandler(context=ssl.create_default_context()))
    for handler in (ProxyHandler(), *web, HTTPDefaultErrorHandler(), HTTPErrorProcessor()):
        opener.add_handler(handler)
    return opener


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port


def _login(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(words.encode()).decode()}"


def _without_login(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
