import fcntl
import multiprocessing
import os
import shutil
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.small_disk import needs_small_disk, run_on_small_disk

from md2dist.errors import ShardError
from md2dist.storage.cache import ShardCache
from md2dist.storage.cache_folder import TAG_NAME, make_cache_folder

fork = multiprocessing.get_context("fork")


def content(key: str, num_bytes: int = 100) -> bytes:
    return (key.encode() * num_bytes)[:num_bytes]


def read(cache: ShardCache, key: str, fetched: list[str] | None = None) -> bytes:
    file = open_file(cache, key, fetched)
    return os.pread(file.descriptor, 1000, 0)


def open_file(cache: ShardCache, key: str, fetched: list[str] | None = None):
    def fill(stream):
        if fetched is not None:
            fetched.append(key)
        stream.write(content(key))

    return cache.open(key, 100, fill)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("[!.]*")} - {TAG_NAME}


def age(folder: Path, **days: float) -> None:
    for name, number in days.items():
        then = time.time() - 86400 * number
        os.utime(folder / name, (then, then))


@pytest.fixture
def cache(tmp_path) -> ShardCache:
    return ShardCache(tmp_path / "cache", 1000)


def test_a_file_is_fetched_once_and_survives_its_process(cache):
    fetched = []
    assert read(cache, "a", fetched) == content("a")
    assert read(ShardCache(cache.folder, 1000), "a", fetched) == content("a")
    assert fetched == ["a"]
    assert names(cache.folder) == {"a"}


def test_what_fails_to_be_fetched_leaves_nothing(cache):
    def fail(stream):
        stream.write(b"half")
        raise ShardError("the store is gone")

    with pytest.raises(ShardError, match="gone"):
        cache.open("a", 100, fail)
    assert names(cache.folder) == set()
    assert read(cache, "a") == content("a")


def test_the_bound_holds_whatever_is_read(cache):
    for number in range(100):
        read(cache, f"file-{number}")
        assert 100 * len(names(cache.folder)) <= 1000


def test_the_bound_is_that_of_the_process_that_makes_room(cache):
    for number in range(10):
        read(cache, f"large-{number}")
    small = ShardCache(cache.folder, 300)
    read(small, "large-0")  # a file that is in the cache needs no room
    assert len(names(cache.folder)) == 10
    read(small, "small")
    assert len(names(cache.folder)) <= 3
    for number in range(20):
        read(cache, f"again-{number}")
    assert 9 <= len(names(cache.folder)) <= 10


def test_files_in_use_stay_and_the_bound_waits_for_them(cache, caplog):
    held = [open_file(cache, f"held-{number}") for number in range(10)]
    for number in range(5):
        read(cache, f"other-{number}")
    assert names(cache.folder) >= {f"held-{number}" for number in range(10)}
    assert "exceed data.cache_gb" in caplog.text
    del held
    read(cache, "last")
    assert len(names(cache.folder)) <= 10


def test_long_unused_files_go_first_then_those_used_last(tmp_path):
    cache = ShardCache(tmp_path / "cache", 1060)  # so that each new file costs one
    for key in "abcdefghij":
        read(cache, key)
    age(cache.folder, a=0.1, b=0.4, c=2, d=3, e=0.2, f=4, g=0.3, h=0.3, i=0.3, j=0.3)
    gone = []
    for key in "klmno":
        before = names(cache.folder)
        held = open_file(cache, key)
        gone.append("".join(sorted(before - names(cache.folder))))
        age(cache.folder, **{key: 0.35})
        del held
    assert gone == ["f", "d", "c", "a", "e"]


def test_a_cache_of_half_the_data_saves_half_of_the_second_epoch(tmp_path):
    cache, fetched = ShardCache(tmp_path, 10_000), []
    rng = np.random.default_rng(0)
    for epoch in range(4):
        fetched.clear()
        for number in rng.permutation(200).tolist():
            read(cache, str(number), fetched)
        assert (len(fetched) == 200) if epoch == 0 else (95 <= len(fetched) <= 115)


def test_a_file_that_is_thrown_out_can_be_read_on(cache):
    file = open_file(cache, "a")
    cache.discard(file)
    assert names(cache.folder) == set()
    assert os.pread(file.descriptor, 1000, 0) == content("a")
    held = open_file(cache, "a")
    cache.discard(file)  # again, which spares the new one
    assert held.path.exists()


def open_while_removed(cache: ShardCache, num_times: int) -> bytes:
    def fill(stream):
        nonlocal num_times
        if num_times:
            shutil.rmtree(cache.folder)
        num_times = max(0, num_times - 1)
        stream.write(content("a"))

    file = cache.open("a", 100, fill)
    return os.pread(file.descriptor, 1000, 0)


def test_a_folder_that_is_removed_while_it_is_used_begins_again(cache):
    held = open_file(cache, "held")
    assert open_while_removed(cache, 2) == content("a")
    assert names(cache.folder) == {"a"}
    assert os.pread(held.descriptor, 1000, 0) == content("held")


def test_a_folder_that_is_removed_while_it_is_looked_for_begins_again(cache, monkeypatch):
    read(cache, "a")
    fetched = []
    monkeypatch.setattr(Path, "is_dir", lambda path: shutil.rmtree(path))  # what `mkdir` asks last
    assert read(cache, "a", fetched) == content("a")
    assert fetched == ["a"]


def test_a_folder_that_is_removed_again_and_again_is_reported(cache):
    with pytest.raises(ShardError, match=r"the cache in .* cannot be written \(No such file or di"):
        open_while_removed(cache, 99)


def test_what_another_process_fetches_into_a_new_folder_is_left_alone(cache):
    part = cache.folder / "a.part"

    def fill(stream):
        shutil.rmtree(cache.folder)
        make_cache_folder(cache.folder)
        part.write_bytes(b"half")  # of another process, which continues
        stream.write(content("a"))
        raise ShardError("the store is gone")

    with pytest.raises(ShardError, match="gone"):
        cache.open("a", 100, fill)
    assert part.read_bytes() == b"half"


def fill_slowly(folder: Path, turns, started, go_on, all_read) -> None:
    def fill(stream):
        with turns.get_lock():
            turns.value += 1
        started.set()
        go_on.wait(30)
        stream.write(content("a"))

    file = ShardCache(folder, 1000).open("a", 100, fill)
    assert os.pread(file.descriptor, 1000, 0) == content("a")
    all_read.wait(30)  # keeps using it until all have it


def test_one_process_fetches_while_the_others_wait(tmp_path):
    turns, started, go_on = fork.Value("i", 0), fork.Event(), fork.Event()
    arguments = (tmp_path, turns, started, go_on, fork.Barrier(4))
    processes = [fork.Process(target=fill_slowly, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    assert started.wait(30)
    assert read(ShardCache(tmp_path, 1000), "b") == content("b")  # other files are not kept back
    go_on.set()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert turns.value == 1


def test_a_process_killed_while_it_fetches_is_replaced_by_one_that_waits(tmp_path):
    turns, started, never, at_once = fork.Value("i", 0), fork.Event(), fork.Event(), fork.Event()
    at_once.set()
    alone = fork.Barrier(1)
    victim = fork.Process(target=fill_slowly, args=(tmp_path, turns, started, never, alone))
    heir = fork.Process(target=fill_slowly, args=(tmp_path, turns, fork.Event(), at_once, alone))
    victim.start()
    assert started.wait(30)
    assert names(tmp_path) == {"a.part"}
    heir.start()
    victim.kill()
    heir.join(30)
    assert heir.exitcode == 0
    assert turns.value == 2
    assert names(tmp_path) == {"a"}


def test_what_a_killed_process_left_is_the_first_to_go(cache):
    read(cache, "a")
    (cache.folder / "b.part").write_bytes(bytes(850))
    age(cache.folder, **{"b.part": 0.5})  # otherwise worth more than what was used last
    for key in "cdefghijkl":
        read(cache, key)
    assert "b.part" not in names(cache.folder)
    assert "a" in names(cache.folder)


def test_a_process_forked_while_room_is_made_does_not_keep_the_others_out(cache, monkeypatch):
    forked = []

    def fork_and_allocate(descriptor, start, num_bytes):  # as another thread may at this time
        child = fork.Process(target=time.sleep, args=(60,))
        child.start()
        forked.append(child)

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", fork_and_allocate)
        read(cache, "a")
    with (cache.folder / ".ledger").open() as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX | fcntl.LOCK_NB)
    forked[0].kill()
    forked[0].join()


FULL_DISK = """
    import sys
    from pathlib import Path
    from md2dist.storage.cache import ShardCache
    folder = Path(sys.argv[1])
    cache = ShardCache(folder / "cache", 10**9)
    for number in range(50):
        cache.open(str(number), 8192, lambda stream: stream.write(bytes(8192)))
    assert 5 < len(list(cache.folder.iterdir())) < 30
    held = [
        cache.open(str(number), 8192, lambda stream: stream.write(bytes(8192)))
        for number in range(30)
    ]
"""


@needs_small_disk
def test_a_full_disk_makes_the_cache_smaller_and_is_reported_when_nothing_can_be_evicted(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    program = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(disk)]
    done = run_on_small_disk(disk, "200k", 'exec "$@"', *program)
    assert "ShardError: the cache in" in done.stderr, done.stderr
    assert "No space left on device" in done.stderr
    assert "data.cache_dir" in done.stderr


def test_a_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match=r"the cache in .* cannot be written \(Not a directory\)"):
        read(ShardCache(tmp_path / "file" / "cache", 1000), "a")
