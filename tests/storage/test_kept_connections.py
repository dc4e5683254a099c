"""Connections to web servers are kept, and nothing else about a request changes."""

import datetime
import ipaddress
import multiprocessing
import socket
import ssl
import threading

import pytest
from helpers.file_server import serve_files
from helpers.remote_shards import HASTY, read_all, read_folder, serve_folder
from helpers.small_shards import write_small_shards

from md2dist.benchmarks.requests import bench_requests
from md2dist.data.shards.dataset import ShardDataset
from md2dist.storage.http_store import HttpStore
from md2dist.storage.store import StoreError
from md2dist.storage.web import connections, forget_connections, open_web, requests

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def server():
    forget_connections()
    with serve_files(keeps_connections=True) as server:
        server.files["x"] = CONTENT
        yield server
    forget_connections()


@pytest.fixture
def store(server):
    return HttpStore(server.url, 5.0)


def read(store, byte_range=None):
    return b"".join(store.read("x", byte_range))


def test_requests_one_after_another_share_a_connection(server, store):
    for start in range(20):
        assert read(store, (start, start + 100)) == CONTENT[start : start + 100]
    assert store.size("x") == len(CONTENT)
    assert read(store) == CONTENT
    assert len(server.requests) == 22
    assert server.num_connections == 1


def test_threads_have_connections_of_their_own(server, store):
    barrier = threading.Barrier(4)
    found = []

    def work():
        pieces = store.read("x", (5, 9))
        first = next(pieces)
        barrier.wait()  # four answers are open
        found.append(first + b"".join(pieces))

    for _ in range(2):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == 8 * [CONTENT[5:9]]
    assert server.num_connections == 4


def test_an_answer_that_is_not_read_to_its_end_ends_its_connection(server, store):
    pieces = store.read("x")
    next(pieces)
    pieces.close()
    with open_web(f"{server.url}/x", timeout=5):
        pass
    assert not any(connections._kept.values())
    assert read(store) == CONTENT


@pytest.mark.parametrize("fault", ["cut:100", "404", "no-length"])
def test_a_fault_ends_its_connection_and_is_reported_as_before(server, store, fault):
    server.faults = ["", fault]
    read(store)
    if fault == "no-length":
        assert read(store) == CONTENT
    else:
        with pytest.raises(StoreError, match=r"25500 bytes too early|responds 404"):
            read(store)
    assert not any(connections._kept.values())
    assert read(store) == CONTENT
    assert server.num_connections == 2


def test_a_server_that_hangs_up_after_each_answer_is_asked_over_new_connections(server, store):
    server.faults = 5 * ["hang-up"]
    for _ in range(6):
        assert read(store) == CONTENT
    assert server.num_connections == 6
    assert len(server.requests) == 6


class OnceServer:
    """Answers the first request of a connection, and treats the second as `fault` says."""

    def __init__(self, fault):
        self.fault, self.num_connections, self.num_requests = fault, 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.answered = threading.Semaphore(0)  # with all that nobody asked for
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            connection, _ = self._listener.accept()
            self.num_connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection:
            self._receive(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            if self.fault == "half-close":
                connection.shutdown(socket.SHUT_WR)
            if self.fault == "unasked":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
            self.answered.release()
            if not self._receive(connection):
                return
            if self.fault == "nonsense":
                connection.sendall(b"\0\1\2\r\n\r\n")
            if self.fault == "half an answer":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
            if self.fault == "late":
                self._receive(connection)

    def _receive(self, connection):
        request = connection.recv(4096)
        self.num_requests += bool(request)
        return request


@pytest.mark.parametrize("fault", ["drop", "nonsense", "half-close", "unasked"])
def test_a_kept_connection_that_fails_is_replaced_by_a_new_one_at_once(fault):
    server = OnceServer(fault)
    store = HttpStore(server.url, 5.0)
    for _ in range(3):
        assert b"".join(store.read("x")) == b"ok"
        assert server.answered.acquire(timeout=30)
    assert server.num_connections == 3


@pytest.mark.parametrize(
    ("fault", "reason"), [("late", "timed out"), ("half an answer", "1 bytes too early")]
)
def test_a_kept_connection_that_answers_late_or_half_is_a_transient_error(fault, reason):
    server = OnceServer(fault)
    store = HttpStore(server.url, 2.0)
    assert b"".join(store.read("x")) == b"ok"
    with pytest.raises(StoreError, match=reason) as caught:
        b"".join(store.read("x"))
    assert caught.value.is_transient
    assert b"".join(store.read("x")) == b"ok"
    assert server.num_connections == 2


def test_a_connection_that_was_idle_for_long_is_not_used(server, store, monkeypatch):
    read(store)
    monkeypatch.setattr(connections, "_LONGEST_IDLE", 0.0)
    read(store)
    assert server.num_connections == 2


def test_a_forked_process_uses_no_connection_of_its_parent(server, store):
    read(store)
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        assert pool.map(read, 4 * [store], chunksize=1) == 4 * [CONTENT]
    assert read(store) == CONTENT
    assert 2 <= server.num_connections <= 3
    (idle,) = connections._kept.values()
    assert len(idle) == 1


def test_redirects_and_passwords_follow_their_rules_over_kept_connections(server):
    with serve_files(keeps_connections=True) as other:
        other.files["y"] = b"other"
        server.redirects["away"] = f"{other.url}/y"
        address = server.url.replace("//", "//user:secret@")
        for _ in range(2):
            with open_web(f"{address}/x", timeout=5) as response:
                response.read()
            assert server.last_signature.startswith("Basic ")
            with open_web(f"{address}/away", timeout=5) as response:
                assert response.read() == b"other"
            assert other.last_signature is None
            with open_web(f"{server.url}/x", timeout=5) as response:
                response.read()
            assert server.last_signature is None
        assert (server.num_connections, other.num_connections) == (1, 1)


def test_few_connections_are_kept(server, monkeypatch):
    monkeypatch.setattr(connections, "_MOST_KEPT", 2)
    responses = [open_web(f"{server.url}/x", timeout=5) for _ in range(5)]
    for response in responses:
        response.read()
        response.close()
    assert [len(idle) for idle in connections._kept.values()] == [2]


def test_shards_are_read_over_few_connections(server, tmp_path):
    folder = write_small_shards(tmp_path / "shards", 6)
    url = serve_folder(server, folder)
    dataset = ShardDataset(url, cache_dir=tmp_path / "c", retry_policy=HASTY)
    assert read_all(dataset) == read_folder(folder)
    assert len(server.requests) > 6
    assert server.num_connections <= 5  # the number of threads that read ahead, and this one


@pytest.fixture
def certificate(tmp_path):
    """File with the key and the certificate of 127.0.0.1, signed by itself."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(datetime.UTC)
    host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(1))
        .not_valid_after(today + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path / "certificate.pem"
    secret = key.private_bytes(pem, pkcs8, serialization.NoEncryption())
    path.write_bytes(secret + signed.public_bytes(pem))
    return path


@pytest.fixture
def secure_server(server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    requests._opener.cache_clear()
    yield server
    requests._opener.cache_clear()


def test_encrypted_connections_are_kept_too(secure_server, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    store = HttpStore(secure_server.url, 5.0)
    for start in range(5):
        assert read(store, (start, start + 100)) == CONTENT[start : start + 100]
    assert secure_server.num_connections == 1


def test_a_server_whose_certificate_is_unknown_is_refused(secure_server):
    store = HttpStore(secure_server.url, 5.0)
    for _ in range(2):
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            read(store)
    assert secure_server.requests == []


def test_the_benchmark_times_both_kinds_of_connections(
    secure_server, certificate, monkeypatch, tmp_path
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    folder = write_small_shards(tmp_path / "shards", 3)
    row = bench_requests(serve_folder(secure_server, folder), 7)
    assert (row["requests"], row["bytes_per_request"]) == (7, 29696)
    assert row["requests_per_second"] > 0
    assert row["requests_per_second_new_connections"] > 0
    # The manifest; then each new connection, which the request after it takes over.
    assert secure_server.num_connections == 1 + 7
