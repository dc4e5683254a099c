import errno
import fcntl
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from helpers.file_server import serve_files

from md2dist.errors import DownloadError
from md2dist.storage.download import download
from md2dist.storage.retries import RetryPolicy

CONTENT = bytes(range(256)) * 40
HASTY = RetryPolicy(num_tries=3, first_wait=0.001, timeout=1.0)
BUSY = r"another process is downloading .*file\.bin; wait"


@pytest.fixture
def server():
    with serve_files() as server:
        server.files["file.bin"] = CONTENT
        yield server


def fetch(url: str, folder: Path, *, check=lambda path: None, **options) -> Path:
    path = folder / "file.bin"
    download(f"{url}/file.bin", path, check, max_bytes=1 << 20, retry_policy=HASTY, **options)
    return path


def test_a_second_download_of_a_file_is_refused_and_spares_the_first(server, tmp_path):
    refused = []

    def come(num_bytes):
        if not refused:
            with pytest.raises(DownloadError, match=BUSY):
                fetch(server.url, tmp_path)
            refused.append(num_bytes)

    assert fetch(server.url, tmp_path, on_bytes=come).read_bytes() == CONTENT
    assert refused
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("is_wrong", [False, True])
def test_a_second_download_may_wait_for_the_first(server, tmp_path, is_wrong):
    """One that succeeds is used; after one that fails, the second downloads the file itself."""
    begun, checked = threading.Event(), []

    def check(path):
        checked.append(path.name)
        if is_wrong and len(checked) == 1:
            raise DownloadError("wrong")

    def come(num_bytes):
        begun.set()
        time.sleep(0.3)  # so that the second one waits

    with ThreadPoolExecutor() as pool:
        first = pool.submit(fetch, server.url, tmp_path, check=check, on_bytes=come)
        assert begun.wait(30)
        assert fetch(server.url, tmp_path, check=check, wait=True).read_bytes() == CONTENT
        assert isinstance(first.exception(), DownloadError) == is_wrong
    assert len(server.requests) == 1 + is_wrong
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_download_that_ends_while_another_begins_keeps_its_file(server, tmp_path, monkeypatch):
    part = tmp_path / "file.bin.part"
    part.write_bytes(CONTENT)
    finish = Mock(side_effect=lambda *_: part.rename(part.with_suffix("")))
    monkeypatch.setattr(fcntl, "flock", finish)
    with pytest.raises(DownloadError, match=BUSY):
        fetch(server.url, tmp_path)
    assert part.with_suffix("").read_bytes() == CONTENT


def test_a_file_system_without_locks_serves_too(server, tmp_path, monkeypatch):
    no_locks = OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=no_locks))
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT
