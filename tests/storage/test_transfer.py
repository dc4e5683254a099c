"""Stores and servers that send too much, too slowly, or to and fro: each is bounded."""

import io
import itertools
import os

import pytest
from helpers.file_server import serve_files
from helpers.object_store import SETTINGS
from helpers.remote_shards import serve_folder
from helpers.small_shards import write_small_shards

from md2dist.data.inspection.verification import verify_shards
from md2dist.data.shards.dataset import ShardDataset
from md2dist.errors import DownloadError, ShardError
from md2dist.storage import transfer
from md2dist.storage.download import download, remote_size
from md2dist.storage.retries import RetryPolicy
from md2dist.storage.s3_store import _open_client
from md2dist.storage.store import fetch_bytes, fetch_checked
from md2dist.storage.transfer import TransferError, run_transfer

HASTY = RetryPolicy(num_tries=2, first_wait=0.001, timeout=0.4)
DRIP_COMMAND = "while sleep 0.05; do printf x; done; echo {}"


@pytest.fixture(autouse=True)
def without_grace(monkeypatch):
    monkeypatch.setattr(transfer, "_GRACE", 0.0)


@pytest.fixture
def server():
    with serve_files() as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    return write_small_shards(tmp_path / "shards", 3)


@pytest.fixture
def place(request, server, folder, monkeypatch):
    """Address of a store of the shards, of the kind that the test names."""
    address = serve_folder(server, folder)
    if request.param == "web":
        return address
    _open_client.cache_clear()
    for name, value in {**SETTINGS, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    _open_client(os.getpid(), HASTY.timeout)  # takes longer than the timeout of these tests
    return "s3://shards"


@pytest.mark.parametrize("place", ["web", "s3"], indirect=True)
@pytest.mark.parametrize("fault", ["drip:0", "drip:100", "drip-head"])
def test_a_store_that_drips_is_given_up(server, place, fault, tmp_path, caplog):
    server.faults += 99 * [fault]
    words = r"index\.json cannot be fetched from .*: tried 2 times: .*timed out"
    with pytest.raises(ShardError, match=words):
        ShardDataset(place, cache_dir=tmp_path / "c", retry_policy=HASTY)


def test_the_wait_for_a_manifest_is_explained(server, folder, caplog):
    server.faults += ["500", "500", "500"]
    policy = HASTY._replace(num_tries=4)
    ShardDataset(serve_folder(server, folder), retry_policy=policy)
    assert [record.message.partition("index.json from")[2] for record in caplog.records] == [
        f" {server.url}/shards: the server responds 500 Internal Server Error; try {n} of 4 follows"
        for n in (3, 4)
    ]


@pytest.mark.parametrize("place", ["web", "s3"], indirect=True)
def test_a_manifest_without_end_is_given_up(server, place, tmp_path):
    server.faults += 99 * ["endless"]
    words = r"index\.json cannot be fetched from .*: more bytes arrive than the 33554432 that"
    with pytest.raises(ShardError, match=words):
        ShardDataset(place, cache_dir=tmp_path / "c", retry_policy=HASTY)
    assert len(server.ranges) == 1


@pytest.mark.parametrize("place", ["web", "s3"], indirect=True)
def test_a_sample_without_end_takes_no_more_room_than_its_size(server, place, tmp_path):
    dataset = ShardDataset(place, cache_dir=tmp_path / "c", retry_policy=HASTY)
    server.faults += 99 * ["endless"]
    with pytest.raises(ShardError, match=r"shard-000000\.tar .* more bytes arrive than the 29696"):
        dataset.raw(0)
    assert not list((tmp_path / "c").rglob("*-*-*"))


class EndlessStore:
    url = "a store"

    def read(self, name, byte_range=None):
        return itertools.repeat(bytes(1000))


class CountingStream(io.BytesIO):
    most = 0

    def write(self, piece):
        written = super().write(piece)
        self.most = max(self.most, len(self.getvalue()))
        return written


def test_never_more_bytes_are_written_than_asked_for():
    stream = CountingStream()
    with pytest.raises(ShardError, match="more bytes arrive than the 4500 that were requested"):
        fetch_checked(EndlessStore(), "x", None, stream, lambda _: "", HASTY, max_bytes=4500)
    assert stream.most == 4000
    with pytest.raises(ShardError, match="more bytes arrive than the 4500"):
        fetch_bytes(EndlessStore(), "x", HASTY, max_bytes=4500)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("cat /dev/zero; echo {}", "more bytes arrive than the 33554432"),
        (DRIP_COMMAND, "tried 2 times: timed out"),
    ],
)
def test_a_command_is_bounded_like_other_stores(command, reason):
    with pytest.raises(ShardError, match=reason):
        ShardDataset(f"pipe:{command}", retry_policy=HASTY)


def test_the_bytes_of_a_try_that_was_left_behind_go_nowhere():
    received = []

    def action(transfer):
        transfer.take(b"one", received.append)
        transfer.end()
        transfer.take(b"two", received.append)

    with pytest.raises(TransferError, match="over"):
        run_transfer(action, timeout=5)
    assert received == [b"one"]


def test_a_verification_fetches_no_more_than_the_manifest_lists(server, folder):
    place = serve_folder(server, folder)
    server.files["shards/shard-000000.tar"] += bytes(512)
    (fault,) = [f for f in verify_shards(place).faults if f.place == "shard-000000.tar"]
    assert "more bytes arrive than" in fault.reason


LOOPS = {
    "to itself": {"a/index.json": "/a/index.json"},
    "in a circle": {"a/index.json": "/b", "b": "/a/index.json"},
}


@pytest.mark.parametrize("redirects", LOOPS.values(), ids=LOOPS)
def test_redirects_in_a_loop_are_one_line(server, redirects, tmp_path):
    server.redirects = {path: f"{server.url}{target}" for path, target in redirects.items()}
    with pytest.raises(ShardError, match=r"responds 302 too many redirects$"):
        ShardDataset(f"{server.url}/a", retry_policy=HASTY)
    assert len(server.requests) == 10
    for reach in (remote_size, lambda url, policy: fetch(url, tmp_path)):
        with pytest.raises(DownloadError, match="responds 302 too many redirects; check the addr"):
            reach(f"{server.url}/a/index.json", HASTY)


@pytest.mark.parametrize(
    "target", ["ftp://127.0.0.1/x", "file:///etc/hosts", "data:,x", "http://[::1"]
)
def test_only_redirects_to_web_servers_are_followed(server, target):
    server.redirects["a/index.json"] = target
    with pytest.raises(ShardError, match=r"invalid address \(of a redirect\)$"):
        ShardDataset(f"{server.url}/a", retry_policy=HASTY)


def test_a_password_is_sent_to_its_own_server_only(server, folder):
    with serve_files() as other:
        other.files["index.json"] = (folder / "index.json").read_bytes()
        server.redirects["a/index.json"] = f"{other.url}/index.json"
        address = server.url.replace("http://", "http://me:se%63ret@")
        assert len(ShardDataset(f"{address}/a", retry_policy=HASTY)) == 3
        assert server.last_signature == "Basic bWU6c2VjcmV0"  # me:secret
        assert other.last_signature is None


def fetch(url, folder, policy=HASTY):
    path = folder / "file.bin"
    download(url, path, lambda path: None, max_bytes=1000, retry_policy=policy)
    return path


@pytest.mark.parametrize(
    ("fault", "size", "reason"),
    [
        ("endless", 900, "is not the expected file: more bytes arrive than the 1000 that"),
        ("", 1001, "is not the expected file: it has 1001 bytes, more than 1000"),
        ("drip:1", 1000, r"tried 2 times: .*timed out"),
        ("drip-head", 901, r"tried 2 times: .*timed out"),
    ],
)
def test_a_download_is_bounded_in_bytes_and_time(server, tmp_path, fault, size, reason):
    server.files["x"] = bytes(size)
    server.faults += 99 * [fault]
    with pytest.raises(DownloadError, match=reason):
        fetch(f"{server.url}/x", tmp_path)
    parts = [path.stat().st_size for path in tmp_path.iterdir()]
    assert parts == [] if "expected file" in reason else max(parts) <= 1000


def test_a_server_that_always_sends_a_few_bytes_is_given_up(server, tmp_path):
    server.files["x"] = bytes(1000)
    server.faults += 999 * ["cut:1"]
    with pytest.raises(DownloadError, match="has ended 100 connections after a few bytes each"):
        fetch(f"{server.url}/x", tmp_path, HASTY._replace(timeout=30))


@pytest.mark.parametrize("length", ["9" * 5000, "²", "-1", "1_0"])
def test_a_length_of_any_kind_is_not_believed(server, length, monkeypatch):
    server.files["x"] = b"1"
    monkeypatch.setattr("md2dist.storage.download.open_web", lambda *_, **__: Answer(length))
    with pytest.raises(DownloadError, match="does not report the size"):
        remote_size(f"{server.url}/x", HASTY)


class Answer(io.BytesIO):
    def __init__(self, length):
        super().__init__()
        self.headers = {"Content-Length": length}
