import errno
import http.client
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.file_server import serve_files

from md2dist.errors import DownloadError
from md2dist.storage import download as module
from md2dist.storage.download import check_sha256, download, remote_size
from md2dist.storage.retries import RetryPolicy

CONTENT = bytes(range(256)) * 40  # 10240 bytes, of which no two stretches begin alike
MAX = 1 << 20  # bytes
HASTY = RetryPolicy(num_tries=3, first_wait=0.001, timeout=1.0)


@pytest.fixture
def server():
    with serve_files() as server:
        server.files["file.bin"] = CONTENT
        yield server


def accept(path: Path) -> None:
    pass


def fetch(server, folder: Path, *, check=accept, **options) -> Path:
    path = folder / "new" / "file.bin"
    download(f"{server.url}/file.bin", path, check, max_bytes=MAX, retry_policy=HASTY, **options)
    return path


def part_of(folder: Path, content: bytes) -> Path:
    (folder / "new").mkdir()
    part = folder / "new" / "file.bin.part"
    part.write_bytes(content)
    return part


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "new").iterdir())


WRONG = [
    "http://[::1",
    "http:///x",
    "http://127.0.0.1/a b",
    "http://127.0.0.1/é",
    "http://127.0.0.1:8x/a",
    "file:///etc/hosts",
    "kitti",
]


@pytest.mark.parametrize("url", WRONG)
def test_what_is_no_address_is_refused_at_once(tmp_path, url):
    message = f"{re.escape(url)} is not a valid address; expected http.*%20"
    with pytest.raises(DownloadError, match=message):
        remote_size(url, HASTY)
    with pytest.raises(DownloadError, match=message):
        download(url, tmp_path / "x", accept, max_bytes=MAX, retry_policy=HASTY)


@pytest.mark.parametrize("target", ["http://127.0.0.1:8x/a", "http://exa..mple/x"])
def test_a_redirect_to_an_invalid_address_is_reported_at_once(server, tmp_path, target):
    server.redirects["from"] = target
    url = f"{server.url}/from"
    for address in (url, "http://exa..mple/x"):
        message = rf"{address} leads to an invalid address \(.*\); expected http"
        with pytest.raises(DownloadError, match=message):
            remote_size(address, HASTY)
        with pytest.raises(DownloadError, match=message):
            download(address, tmp_path / "x", accept, max_bytes=MAX, retry_policy=HASTY)
    assert [method for method, *_ in server.requests] == ["HEAD", "GET"]


def test_a_file_arrives_whole_and_alone(server, tmp_path):
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]
    assert remote_size(f"{server.url}/file.bin", HASTY) == len(CONTENT)


def test_a_download_resumes_where_it_stopped(server, tmp_path):
    part_of(tmp_path, CONTENT[:777])
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=777-"]


def test_connections_that_end_too_early_are_taken_up_again(server, tmp_path):
    server.faults += ["cut:1000", "cut:1", "cut:0", "cut:3000"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", "bytes=1001-", "bytes=1001-", "bytes=4001-"]


def test_only_failures_without_progress_exhaust_the_patience(server, tmp_path):
    server.faults += ["cut:0", "cut:0", "cut:10", "503", "cut:10", "cut:0", "cut:0"]
    with pytest.raises(DownloadError, match=r"tried 3 times.*20 of 10240 bytes; repeat"):
        fetch(server, tmp_path)
    assert names(tmp_path) == ["file.bin.part"]
    assert (tmp_path / "new" / "file.bin.part").read_bytes() == CONTENT[:20]


def test_a_stalled_connection_is_given_up_and_taken_up_again(server, tmp_path):
    server.faults += ["stall:1000"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == 2


@pytest.mark.parametrize("fault", ["no-range", "wrong-range"])
def test_a_server_that_sends_another_range_makes_no_broken_file(server, tmp_path, fault):
    part_of(tmp_path, CONTENT[:777])
    server.faults.append(fault)
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_server_without_ranges_that_always_breaks_is_given_up(server, tmp_path):
    part_of(tmp_path, CONTENT[:777])
    server.keeps_ranges = False
    server.faults += ["cut:500"] * 4
    with pytest.raises(DownloadError, match=r"tried 3 times.*500 of 10240"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_is_full_or_too_long_still_ends_in_the_right_file(server, tmp_path, length):
    part_of(tmp_path, (CONTENT + b"12345")[:length])
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == (1 if length == len(CONTENT) else 2)


def test_a_file_of_unknown_length_is_left_to_the_check(server, tmp_path):
    server.faults.append("no-length")
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_length_that_is_no_number_is_not_known(server, tmp_path):
    server.head_fault = "two-lengths"
    with pytest.raises(DownloadError, match=r"does not report the size; use another --base-url"):
        remote_size(f"{server.url}/file.bin", HASTY)
    server.faults.append("two-lengths")
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("method", ["HTTPResponse.read1", "HTTPConnection.getresponse"])
def test_what_the_system_fails_at_on_the_way_to_a_server_passes(
    server, tmp_path, monkeypatch, method
):
    attempt = pkgutil.resolve_name(f"http.client.{method}")
    faults = 2 * [errno.EHOSTUNREACH]

    def fail(*args, **kwargs):
        if faults:
            raise OSError(faults[0], os.strerror(faults.pop()))
        return attempt(*args, **kwargs)

    monkeypatch.setattr(f"http.client.{method}", fail)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    faults += 99 * [errno.EHOSTUNREACH]
    with pytest.raises(DownloadError, match=r"tried 3 times: .*No route to host.*repeat"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("codes", [["500", "503"], ["429", "408"]])
def test_server_errors_pass_and_a_missing_file_does_not(server, tmp_path, codes):
    server.faults += codes
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    server.requests.clear()
    with pytest.raises(DownloadError, match=r"/absent: the server responds 404.*check the address"):
        download(
            f"{server.url}/absent", tmp_path / "absent", accept, max_bytes=MAX, retry_policy=HASTY
        )
    assert len(server.requests) == 1
    assert not (tmp_path / "absent").exists()
    with pytest.raises(DownloadError, match="404"):
        remote_size(f"{server.url}/absent", HASTY)


def test_waits_double_up_to_half_a_minute(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.faults += ["500"] * 8
    with pytest.raises(DownloadError, match="tried 8 times"):
        download(f"{server.url}/file.bin", tmp_path / "file.bin", accept, max_bytes=MAX)
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_a_file_that_fails_the_check_gets_no_name_and_does_not_stay(server, tmp_path):
    with pytest.raises(DownloadError, match=r"file\.bin is not the expected file: its sha256 is"):
        fetch(server, tmp_path, check=lambda path: check_sha256(path, "0" * 64))
    assert names(tmp_path) == []


def test_told_bytes_add_up_to_those_that_are_here(server, tmp_path):
    part_of(tmp_path, CONTENT[:777])
    server.faults += ["cut:100", "no-range"]
    reported = []
    fetch(server, tmp_path, on_bytes=reported.append)
    assert reported[:2] == [777, 100]
    assert min(reported) == -877
    assert sum(reported) == len(CONTENT)


def test_an_unreachable_and_an_invalid_address_are_reported(tmp_path):
    with serve_files() as server:
        url = server.url
    with pytest.raises(DownloadError, match=r"cannot be downloaded, tried 3 times.*refused"):
        download(
            f"{url}/file.bin", tmp_path / "file.bin", accept, max_bytes=MAX, retry_policy=HASTY
        )
    with pytest.raises(DownloadError, match="expected http"):
        remote_size("somewhere/file.bin", HASTY)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_reported_at_once_with_the_remedy(server, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file.bin.part").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match=r"file\.bin cannot be written: .*No space.*make room"):
        fetch(server, tmp_path)
    assert len(server.requests) == 1
    assert names(tmp_path) == ["file.bin.part"]


def test_a_killed_download_resumes(server, tmp_path):
    server.faults.append("stall:1000")
    program = (
        "import sys; from pathlib import Path; from md2dist.storage.download import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), lambda path: None, max_bytes=1 << 20)"
    )
    path = tmp_path / "file.bin"
    running = subprocess.Popen([sys.executable, "-c", program, f"{server.url}/file.bin", path])
    while not server.requests:
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not path.exists()
    download(f"{server.url}/file.bin", path, accept, max_bytes=MAX, retry_policy=HASTY)
    assert path.read_bytes() == CONTENT


def test_an_interrupted_download_keeps_what_it_has(server, tmp_path):
    server.faults.append("cut:1000")

    def interrupt(num_bytes):
        if num_bytes == 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path, on_bytes=interrupt)
    fetch(server, tmp_path)
    assert server.ranges == [None, "bytes=1000-"]


def test_an_answer_that_is_no_http_is_a_failure_like_others(tmp_path, monkeypatch):
    def answer(*_, **__):
        raise http.client.BadStatusLine("nonsense")

    monkeypatch.setattr(module, "open_web", answer)
    with pytest.raises(DownloadError, match="nonsense"):
        download("http://127.0.0.1/x", tmp_path / "x", accept, max_bytes=MAX, retry_policy=HASTY)
