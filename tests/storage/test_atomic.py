import os
from pathlib import Path

import pytest

from md2dist.storage.atomic import atomic_open, atomic_symlink, atomic_write, publish


def test_a_file_has_no_name_before_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with atomic_open(path) as stream:
        stream.write(b"half")
        stream.flush()
        assert not path.exists()
        stream.write(b" whole")
    assert path.read_bytes() == b"half whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def fail():
        with atomic_open(path) as stream:
            stream.write(b"ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "file"
    with atomic_open(path) as first, atomic_open(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"  # the outer one is whole last


def test_the_umask_sets_the_permissions(tmp_path):
    mask = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", b"content")
    finally:
        os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def name_of(descriptor):
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def test_content_is_on_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    path, flushed = tmp_path / "file", []
    fsync = os.fsync

    def record(descriptor):
        flushed.append((name_of(descriptor), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    atomic_write(path, b"content")
    (partial, had_name), folder = flushed
    assert (partial.startswith(f"{tmp_path}/.file."), had_name) == (True, False)
    assert folder == (str(tmp_path), True)


def test_a_folder_is_published_with_all_its_files_flushed(tmp_path, monkeypatch):
    partial, final = tmp_path / ".partial", tmp_path / "final"
    (partial / "below").mkdir(parents=True)
    (partial / "below" / "file").write_text("content")
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(name_of(descriptor)))
    publish(partial, final)
    below = partial / "below"
    assert flushed == [str(path) for path in (below, below / "file", partial, tmp_path)]
    assert (final / "below" / "file").read_text() == "content"
    assert not partial.exists()


def test_a_symbolic_link_is_replaced(tmp_path):
    for target in ("first", "second"):
        atomic_symlink(tmp_path / "link", target)
        assert (tmp_path / "link").readlink() == Path(target)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic_symlink(tmp_path / "folder", "first")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]
