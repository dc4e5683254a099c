"""Web server on localhost that serves files from memory and injects faults."""

import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves `files` by path; each GET consumes the next of `faults`, each HEAD has `head_fault`.

    Faults: a status code, optionally with a blank and an object store's error code; ``cut:N`` (N
    bytes, then the connection is closed), ``stall:N`` (N bytes, then no more), ``no-range`` (the
    whole file instead of the requested range), ``wrong-range``, ``no-length``, ``two-lengths``,
    ``flip`` (one bit is flipped), ``long`` (extra bytes at the end), ``endless`` (bytes without
    end), ``drip:N`` (N bytes, then one now and then), ``drip-head`` (the same in the header),
    ``hang-up`` (a right answer, then the connection is closed), ``""`` (none).
    """

    daemon_threads = True
    request_queue_size = 64  # more than a reader's simultaneous requests

    def __init__(self, keeps_connections: bool = False):
        super().__init__(("127.0.0.1", 0), _KeepingHandler if keeps_connections else _Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}  # URLs by path
        self.faults: list[str] = []
        self.head_fault = ""
        self.keeps_ranges = True
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, range
        self.num_connections = 0
        self.last_signature: str | None = None
        self.end_of_stalls = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    @property
    def ranges(self) -> list[str | None]:
        return [asked for method, _, asked in self.requests if method == "GET"]


@contextmanager
def serve_files(keeps_connections: bool = False):
    server = FileServer(keeps_connections)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.end_of_stalls.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def setup(self):
        super().setup()
        self.server.num_connections += 1

    def handle(self):
        with suppress(ConnectionError):  # a client may leave between two requests
            super().handle()

    def do_HEAD(self):
        self._answer(with_body=False, fault=self.server.head_fault)

    def do_GET(self):
        self._answer(with_body=True, fault=self.server.faults.pop(0) if self.server.faults else "")

    def _answer(self, with_body: bool, fault: str) -> None:
        asked = self.headers["Range"]
        self.server.requests.append((self.command, self.path, asked))
        self.server.last_signature = self.headers["Authorization"]
        self.close_connection = self.close_connection or fault not in ("", "hang-up")
        if fault == "drip-head":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nServer: ")
            self._drip()
            return
        path = self.path.lstrip("/")
        path = path if path in self.server.files else path.partition("?")[0]  # a signature
        if path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.server.files.get(path)
        status, _, word = fault.partition(" ")
        if status.isdigit() or content is None:
            if word:
                self.error_message_format = f"<Error><Code>{word}</Code></Error>"
            self.send_error(int(status or 404))
            return
        first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        start, stop = int(first), int(last) + 1 if last else len(content)
        if fault == "no-range" or not self.server.keeps_ranges:
            asked, start, stop = None, 0, len(content)
        elif start >= len(content) and asked:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "wrong-range":
            start -= 1
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        content = content[start:stop]
        if fault == "flip":
            content = bytes([content[0] ^ 1]) + content[1:]
        if fault == "long":
            content += b"more"
        if fault not in ("no-length", "endless"):
            length = str(len(content))
            self.send_header("Content-Length", length + f", {length}" * (fault == "two-lengths"))
        self.end_headers()
        if with_body:
            kind, _, number = fault.partition(":")
            self.wfile.write(content[: int(number)] if number else content)
            self.wfile.flush()
            if kind == "stall":
                self.server.end_of_stalls.wait(30)
            elif kind == "drip":
                self._drip()
            elif kind == "endless":
                with suppress(OSError):  # the client has left
                    while not self.server.end_of_stalls.is_set():
                        self.wfile.write(bytes(1 << 16))

        if fault == "hang-up":
            self.close_connection = True

    def _drip(self) -> None:
        with suppress(OSError):
            while not self.server.end_of_stalls.wait(0.05):
                self.wfile.write(b"x")

    def log_message(self, format, *args):  # the name in BaseHTTPRequestHandler
        pass


class _KeepingHandler(_Handler):
    protocol_version = "HTTP/1.1"
