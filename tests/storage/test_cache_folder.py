import os

import pytest

from md2dist.data.shards.files import open_cache
from md2dist.errors import ConfigError
from md2dist.storage.cache import ShardCache
from md2dist.storage.cache_folder import default_cache_folder

KEY = f"{'ab' * 32}-0-100"


def read(cache: ShardCache, key: str, fetched: list[str] | None = None) -> bytes:
    def fill(stream):
        if fetched is not None:
            fetched.append(key)
        stream.write(content(key))

    file = cache.open(key, 100, fill)
    return os.pread(file.descriptor, 1000, 0)


def content(key: str) -> bytes:
    return (100 * key.encode())[:100]


@pytest.fixture
def cache(tmp_path) -> ShardCache:
    return ShardCache(tmp_path / "cache", 1000)


def test_files_of_others_in_the_folder_are_never_deleted(tmp_path):
    (tmp_path / "thesis.tex").write_text("x" * 5000)
    dataset_cache = open_cache(tmp_path, 1e-6)  # 1000 bytes
    for number in range(20):
        read(dataset_cache, f"file-{number}")
    assert (tmp_path / "thesis.tex").read_text() == "x" * 5000
    with pytest.raises(ConfigError, match="not a cache of md2dist: it holds"):
        read(ShardCache(tmp_path, 1000), KEY)


def test_a_cache_of_an_earlier_version_is_taken_over(tmp_path):
    (tmp_path / KEY).write_bytes(content(KEY))
    fetched = []
    assert read(ShardCache(tmp_path, 1000), KEY, fetched) == content(KEY)
    assert fetched == []


@pytest.mark.parametrize("name", ["a", "a.part", ".ledger"])
@pytest.mark.parametrize("is_dangling", [True, False])
def test_a_link_in_the_cache_is_replaced_and_never_followed(cache, tmp_path, name, is_dangling):
    read(cache, "first")
    target = tmp_path / "precious"
    if not is_dangling:
        target.write_text("precious")
    link = cache.folder / name
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    assert read(cache, "a") == content("a")
    assert not link.is_symlink()
    assert target.read_text() == "precious" if not is_dangling else not target.exists()


def test_a_link_in_place_of_the_cache_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="is a link"):
        read(ShardCache(tmp_path / "cache", 1000), "a")


@pytest.mark.parametrize("damage", ["", "x", "-5", "9" * 5000, "\0"])
def test_a_damaged_count_of_the_bytes_is_counted_again(cache, damage):
    read(cache, "a")
    (cache.folder / ".ledger").write_text(damage)
    read(cache, "b")
    assert (cache.folder / ".ledger").read_text() == "200"


def test_the_default_folder_is_closed_to_others_and_no_link(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = default_cache_folder()
    assert default_cache_folder() == first
    assert first.stat().st_mode & 0o777 == 0o700
    first.chmod(0o777)
    second = default_cache_folder()
    assert second != first
    second.rmdir()
    second.symlink_to(tmp_path)
    assert default_cache_folder() not in (first, second)
    for number in range(10):
        (tmp_path / f"{first.name}-{number}").mkdir(mode=0o755, exist_ok=True)
        (tmp_path / f"{first.name}-{number}").chmod(0o755)
    with pytest.raises(ConfigError, match=r"set data\.cache_dir"):
        default_cache_folder()
