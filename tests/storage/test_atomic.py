import pytest

from md2dist.storage.atomic import atomic_open, atomic_write


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
