import hashlib

import pytest
from helpers.file_server import serve_files

from md2dist.data.kitti import named_splits, published_splits
from md2dist.data.kitti.named_splits import find_split, load_split, name_split
from md2dist.data.kitti.published_splits import PUBLISHED_SPLITS, PublishedList, fetch_split
from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import SplitError
from md2dist.storage.retries import RetryPolicy

DRIVE = "2011_09_26/2011_09_26_drive_0005_sync"
TEXT = f"{DRIVE} 1 l\n"
HASTY = RetryPolicy(num_tries=2, first_wait=0.001, timeout=1.0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "md2dist" / "splits"


@pytest.fixture
def server(monkeypatch):
    """A server of one list, ``mine/train``, which this package takes for a published one."""
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    published = PublishedList("mine/train_files.txt", digest)
    monkeypatch.setitem(PUBLISHED_SPLITS, "mine/train", published)
    with serve_files() as server:
        server.files["mine/train_files.txt"] = TEXT.encode()
        yield server


def fetch_mine(server):
    return fetch_split("mine/train", server.url, HASTY)


def test_the_published_lists_have_the_sums_of_this_project(shared, cache):
    with serve_files() as server:
        for listed in PUBLISHED_SPLITS.values():
            server.files[listed.path] = (shared / "splits" / listed.path).read_bytes()
        for name, listed in PUBLISHED_SPLITS.items():
            assert fetch_split(name, server.url, HASTY) == cache / listed.path


def test_every_published_list_has_a_name(shared):
    sums = (shared / "splits" / "SHA256SUMS").read_text().split()
    known = dict(zip(sums[1::2], sums[::2], strict=True))
    lists = {path.removeprefix("./"): sha for path, sha in known.items() if "_files" in path}
    del lists["benchmark/test_files.txt"]  # whose lines name no drives
    assert {tuple(listed) for listed in PUBLISHED_SPLITS.values()} == set(lists.items())


def test_the_address_names_a_commit_and_no_branch():
    assert published_splits.BASE_URL.endswith("/b676244e5a1ca55564eb5d16ab521a48f823af31/splits")


def test_a_list_is_downloaded_once(server, cache):
    path = fetch_mine(server)
    assert path == cache / "mine" / "train_files.txt"
    assert path.read_text() == TEXT
    assert fetch_mine(server) == path
    assert len(server.requests) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_list_in_the_cache_is_replaced(server):
    path = fetch_mine(server)
    path.write_text(TEXT.replace("1 l", "2 l"))
    assert fetch_mine(server).read_text() == TEXT


def test_a_list_that_has_changed_at_the_server_is_refused(server, cache):
    server.files["mine/train_files.txt"] = TEXT.replace("1 l", "2 l").encode()
    with pytest.raises(SplitError, match=r"mine/train cannot be fetched.*sha256.*--splits-dir"):
        fetch_mine(server)
    assert list((cache / "mine").iterdir()) == []


def test_a_server_that_lacks_the_list_is_reported_with_the_remedy(server):
    server.files.clear()
    with pytest.raises(SplitError, match=r"404.*--splits-dir.*holds mine/train_files\.txt"):
        fetch_mine(server)


def test_without_a_cache_variable_the_home_folder_serves(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert published_splits.cache_folder().parts[-3:] == (".cache", "md2dist", "splits")


def test_a_user_without_a_home_folder_gets_the_variables_to_set(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    with pytest.raises(SplitError, match="set HOME or XDG_CACHE_HOME, or pass --splits-dir"):
        published_splits.cache_folder()


def test_a_published_name_is_fetched_unless_a_folder_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(named_splits, "fetch_split", lambda name: tmp_path / f"fetched {name}")
    assert find_split("odom/test_09") == tmp_path / "fetched odom/test_09"
    (tmp_path / "odom").mkdir()
    own = tmp_path / "odom" / "test_files_09.txt"
    own.touch()
    assert find_split("odom/test_09", tmp_path) == own


def test_a_split_is_found_by_its_path_and_by_its_name(tmp_path):
    path = tmp_path / "mine" / "val_files.txt"
    path.parent.mkdir()
    path.write_text(TEXT)
    assert find_split(path) == find_split("mine/val", tmp_path) == path
    assert name_split(str(path)) == "val_files.txt"
    assert name_split("mine/val") == "mine/val"
    split = load_split("mine/val", SourceTree(tmp_path), splits_dir=tmp_path)
    assert [str(line) for line in split.lines] == [TEXT.strip()]
    assert split.origin == f"mine/val: 1 samples, listed in {path}"


def test_an_unknown_split_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "val_files.txt").touch()
    with pytest.raises(SplitError, match=f"in {tmp_path}; expected one of: mine/val$"):
        find_split("mine", tmp_path)
    with pytest.raises(SplitError, match=r"eigen_zhou/train.*rule/val"):
        find_split("eigen_zhou/test")
    for name in ("mine/val", "benchmark/test", "long" * 100):
        with pytest.raises(SplitError, match=f"no split file {name}, and .*--splits-dir"):
            find_split(name)
    with pytest.raises(SplitError, match="no split file"):
        find_split("long" * 100, tmp_path)
    assert name_split("long" * 100) == "long" * 100
