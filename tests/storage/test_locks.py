import errno
import fcntl
import os
from unittest.mock import Mock

import pytest

from md2dist.storage.locks import is_same_file, lock, try_lock, unlock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def test_an_exclusive_lock_keeps_others_out_until_it_is_released(path):
    with path.open("a") as first, path.open("a") as second:
        assert try_lock(first)
        assert not try_lock(second)
        assert not try_lock(second, shared=True)
        unlock(first)
        assert try_lock(second)


def test_shared_locks_exclude_only_an_exclusive_one(path):
    with path.open("a") as first, path.open("a") as second, path.open("a") as third:
        lock(first, shared=True)
        assert try_lock(second, shared=True)
        assert not try_lock(third)


def test_a_lock_ends_when_its_file_is_closed(path):
    with path.open("a") as first:
        lock(first)
    with path.open("a") as second:
        assert try_lock(second.fileno())


def test_a_file_system_without_locks_is_an_error_where_one_is_required(path, monkeypatch, caplog):
    no_locks = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=no_locks))
    with path.open("a") as file:
        assert try_lock(file, required=False)
        assert f"{path} cannot be locked against other processes: No locks" in caplog.text
        with pytest.raises(OSError, match="No locks"):
            try_lock(file)


def test_a_file_that_was_removed_or_replaced_is_another(path):
    with path.open("a") as file:
        assert is_same_file(file, path)
        path.unlink()
        assert not is_same_file(file, path)
        path.touch()
        assert not is_same_file(file.fileno(), path)
