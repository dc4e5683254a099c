"""Kept connections: handlers of urllib that send a request over the connection of an earlier one.

A connection is kept once its answer has been read to the end. A server may close it at any time, so
a request that it drops without an answer is sent again, once, over a new connection.
"""

import os
import select
import ssl
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, Request

_Key = tuple[str, str]  # scheme; host and port
_MOST_KEPT = 16  # of a server
_MOST_SERVERS = 16
_LONGEST_IDLE = 15.0  # s; later, a router on the way may have forgotten the connection
_DROPPED = (ConnectionError, HTTPException, ssl.SSLError)  # by the server, while nobody used it

_kept: dict[_Key, deque[tuple[HTTPConnection, float]]] = {}  # with the time since which it is idle


def forget_connections() -> None:
    """Closes all kept connections."""
    _kept.clear()


os.register_at_fork(after_in_child=forget_connections)  # the parent process uses them


class KeptHttpHandler(HTTPHandler):
    """Opens http addresses."""

    def http_open(self, req: Request) -> HTTPResponse:
        """Sends a request; errors are those of urllib."""
        if _has_proxy(req):
            return super().http_open(req)
        return _send(req, HTTPConnection)


class KeptHttpsHandler(HTTPSHandler):
    """Opens https addresses.

    Args:
        context: the certificates to trust.
    """

    def __init__(self, context: ssl.SSLContext):
        super().__init__(context=context)
        self._trusted = context

    def https_open(self, req: Request) -> HTTPResponse:
        """Sends a request; errors are those of urllib."""
        if _has_proxy(req):
            return super().https_open(req)
        return _send(req, partial(HTTPSConnection, context=self._trusted))


class _Response(HTTPResponse):
    """An answer that gives its connection back when it is closed."""

    give_back: Callable[[bool], object] | None = None  # receives whether it can be used again

    def close(self) -> None:
        is_whole = self.length == 0 and not self.chunked and not self.will_close
        super().close()
        give_back, self.give_back = self.give_back, None
        if give_back:
            give_back(is_whole)


def _has_proxy(request: Request) -> bool:
    return request.host != urlsplit(request.full_url).netloc


def _send(request: Request, connect: Callable[..., HTTPConnection]) -> HTTPResponse:
    key = request.type, request.host
    if connection := _take(key, request.timeout):
        try:
            return _ask(connection, request, key)
        except URLError as error:
            if not isinstance(error.reason, _DROPPED):
                raise
        except _DROPPED:
            pass
    connection = connect(request.host, timeout=request.timeout)
    connection.response_class = _Response
    return _ask(connection, request, key)


def _ask(connection: HTTPConnection, request: Request, key: _Key) -> HTTPResponse:
    headers = {name.title(): value for name, value in request.header_items()}
    try:
        try:
            connection.request(request.get_method(), request.selector, headers=headers)
        except OSError as error:
            raise URLError(error) from error
        response: Any = connection.getresponse()
    except BaseException:
        connection.close()
        raise
    response.url = request.full_url
    response.msg = response.reason  # as urllib's handlers do
    response.give_back = partial(_keep, key, connection)
    return response


def _take(key: _Key, timeout: float | None) -> HTTPConnection | None:
    """Returns a kept connection that is still open, the last one that was used."""
    idle = _kept.get(key, deque())
    while idle:
        try:
            connection, since = idle.pop()
        except IndexError:  # another thread was faster
            break
        if time.monotonic() - since < _LONGEST_IDLE and not _has_input(connection):
            connection.sock.settimeout(timeout)
            return connection
        connection.close()
    return None


def _has_input(connection: HTTPConnection) -> bool:
    """Returns whether bytes, or the end, have arrived that nobody has asked for."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _keep(key: _Key, connection: HTTPConnection, is_usable: bool) -> None:
    # Without locks: the garbage collector may close a response at any place, also here.
    if len(_kept) >= _MOST_SERVERS:
        _kept.clear()
    idle = _kept.setdefault(key, deque())
    if is_usable and connection.sock and len(idle) < _MOST_KEPT:
        idle.append((connection, time.monotonic()))
    else:
        connection.close()
