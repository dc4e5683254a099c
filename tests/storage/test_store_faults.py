"""Faults of stores: each is overcome by a retry, or ends as one clear error."""

import errno
import os
import pkgutil
from pathlib import Path

import pytest
from helpers.file_server import serve_files
from helpers.remote_shards import HASTY, read_all, read_folder, serve_folder
from helpers.small_shards import write_small_shards

from md2dist.data.shards.dataset import ShardDataset
from md2dist.errors import ShardError
from md2dist.storage.cache_folder import NAME
from md2dist.storage.store import NUM_AT_ONCE

SAMPLE = 29696  # bytes of a sample's section


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_small_shards(tmp_path_factory.mktemp("shards"), 3)


@pytest.fixture
def server():
    with serve_files() as server:
        yield server


@pytest.fixture
def dataset(server, folder, tmp_path) -> ShardDataset:
    return ShardDataset(serve_folder(server, folder), cache_dir=tmp_path / "c", retry_policy=HASTY)


def left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "c" / NAME).glob("*-*-*")]


PASSING = {
    "responds 500": "500",
    "is too busy": "429",
    "cuts the connection": "cut:1000",
    "cuts it at once": "cut:0",
    "stalls": "stall:1000",
    "flips a bit": "flip",
    "sends too much": "long",
    "sends everything": "no-range",
}


def test_a_length_that_is_no_number_is_not_needed(server, folder, dataset):
    server.faults += ["two-lengths"]
    assert read_all(dataset) == read_folder(folder)


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_store_is_asked_again_that_once(server, folder, dataset, fault, tmp_path):
    server.faults += [fault, "500" if fault in ("flip", "long") else fault]
    before = len(server.ranges)
    assert read_all(dataset) == read_folder(folder)
    assert len(server.ranges) == before + 3 + 2
    assert len(left(tmp_path)) == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("503", "tried 3 times: the server responds 503"),
        ("cut:1000", f"tried 3 times: the connection ended {SAMPLE - 1000} bytes too early"),
        ("stall:1000", "tried 3 times: .*timed out"),
        ("no-range", "tried 3 times: the server ignores the requested byte range"),
        ("403", "the server responds 403"),
    ],
)
def test_a_store_that_always_fails_is_an_error_that_names_the_shard(
    server, dataset, fault, reason, tmp_path
):
    server.faults += 99 * [fault]
    with pytest.raises(ShardError, match=rf"shard-000000\.tar .* {server.url}/.*: {reason}"):
        dataset.raw(0)
    assert left(tmp_path) == []


def test_a_missing_shard_is_an_error_at_once(server, dataset, tmp_path):
    server.files = {name: c for name, c in server.files.items() if not name.endswith(".tar")}
    before = len(server.requests)
    with pytest.raises(ShardError, match=r"shard-000000\.tar cannot be fetched from .*404"):
        dataset.raw(1)
    assert len(server.requests) == before + 1
    with pytest.raises(ShardError, match=r"1 of 1 shards in http.* missing.*shard-000000\.tar"):
        dataset.check_files()
    assert left(tmp_path) == []


def test_a_store_that_goes_down_is_not_asked_about_every_shard(server, tmp_path):
    folder = write_small_shards(tmp_path / "many", 40, samples_per_shard=1)
    dataset = ShardDataset(
        serve_folder(server, folder), cache_dir=tmp_path / "c", retry_policy=HASTY
    )
    server.head_fault = "503"
    before = len(server.requests)
    with pytest.raises(
        ShardError, match=r"shard-0000\d\d\.tar cannot be fetched .* tried 3 times: .*503"
    ):
        dataset.check_files()
    assert len(server.requests) - before <= HASTY.num_tries * NUM_AT_ONCE


@pytest.mark.parametrize("status", [403, 405, 501])
@pytest.mark.parametrize("keeps_ranges", [True, False])
def test_a_server_without_head_requests_is_asked_for_a_byte(server, dataset, status, keeps_ranges):
    server.head_fault, server.keeps_ranges = str(status), keeps_ranges
    dataset.check_files()
    (name,) = (name for name in server.files if name.endswith("0.tar"))
    server.files[name] += b"more"
    with pytest.raises(ShardError, match=r"1 of 1 shards .*shard-000000\.tar has \d+ bytes, exp"):
        dataset.check_files()
    server.faults += ["403"]
    with pytest.raises(
        ShardError, match=r"^shard-000000\.tar cannot be fetched from .*responds 403"
    ):
        dataset.check_files()


@pytest.mark.parametrize("status", ["400", "401"])
def test_a_server_that_refuses_to_answer_is_not_said_to_lack_shards(server, dataset, status):
    server.head_fault = status
    with pytest.raises(
        ShardError, match=rf"^shard-000000\.tar cannot be fetched .*responds {status}"
    ):
        dataset.check_files()


def test_errors_come_at_the_turn_of_the_sample(server, folder, dataset):
    server.faults += ["", "404"]
    samples = dataset.stream([1])
    next(samples)
    samples = dataset.stream([1, 2])
    assert next(samples)["__key__"]
    with pytest.raises(ShardError, match="404"):
        next(samples)


def test_shards_that_the_manifest_does_not_fit_are_refused_after_two_looks(server, folder, dataset):
    (name,) = (name for name in server.files if name.endswith("0.tar"))
    server.files[name] = server.files[name].replace(b"IDAT", b"TADI")
    before = len(server.requests)
    with pytest.raises(ShardError, match=r"shard-000000\.tar .* have checksum .*other packing"):
        dataset.raw(2)
    assert len(server.requests) == before + 2


def test_a_whole_shard_is_checked_before_it_enters_the_cache(server, folder, tmp_path, caplog):
    server.keeps_ranges = False
    url = serve_folder(server, folder)
    dataset = ShardDataset(url, cache_dir=tmp_path / "c", retry_policy=HASTY)
    server.faults += 2 * ["flip"]
    with pytest.raises(
        ShardError, match=r"shard-000000\.tar cannot be fetched .*checksum .* \(index\.json\)"
    ):
        dataset.raw(0)
    assert left(tmp_path) == []
    before = len(server.requests)
    server.faults += ["flip"]
    assert read_all(dataset) == read_folder(folder)
    assert len(server.requests) == before + 2
    assert "is damaged; it is fetched" not in caplog.text  # it has never been there


def test_a_manifest_of_another_data_set_is_found_before_the_first_sample(server, tmp_path, folder):
    url = serve_folder(server, folder)
    other = write_small_shards(tmp_path / "other", 6)
    server.files[f"{folder.name}/index.json"] = (other / "index.json").read_bytes()
    dataset = ShardDataset(url, cache_dir=tmp_path / "c", retry_policy=HASTY)
    with pytest.raises(ShardError, match=r"2 of 2 shards .* differ in size from index\.json"):
        dataset.check_files()


def test_a_manifest_that_is_no_manifest_is_refused(server, folder, tmp_path):
    url = serve_folder(server, folder)
    server.files[f"{folder.name}/index.json"] = b"<html>Please log in</html>"
    with pytest.raises(ShardError, match=rf"{url}/index\.json is damaged"):
        ShardDataset(url, cache_dir=tmp_path / "c", retry_policy=HASTY)


@pytest.mark.parametrize(("keeps_ranges", "num_files"), [(True, 3), (False, 1)])
def test_a_cached_file_that_goes_bad_is_fetched_again_once(
    server, folder, tmp_path, keeps_ranges, num_files, caplog
):
    server.keeps_ranges = keeps_ranges
    url = serve_folder(server, folder)
    dataset = ShardDataset(url, cache_dir=tmp_path / "c", retry_policy=HASTY)
    read_all(dataset)
    for name in left(tmp_path):
        path = tmp_path / "c" / NAME / name
        path.write_bytes(bytes(path.stat().st_size))
    before = len(server.requests)
    assert read_all(dataset) == read_folder(folder)
    assert len(server.requests) == before + num_files
    assert caplog.text.count("is damaged; it is fetched again") == num_files


@pytest.mark.parametrize(
    ("place", "owner", "method"),
    [
        ("{url}", "http.client.HTTPResponse", "read1"),
        ("pipe:cat {folder}/{{}}", "subprocess", "Popen"),
        ("{folder}", "md2dist.storage.open_store", "open_regular"),
    ],
)
def test_what_this_machine_fails_at_on_the_way_to_a_store_passes(
    server, folder, tmp_path, monkeypatch, place, owner, method
):
    place = place.format(url=serve_folder(server, folder), folder=folder)
    dataset = ShardDataset(place, cache_dir=tmp_path / "c", retry_policy=HASTY)
    attempt = pkgutil.resolve_name(f"{owner}.{method}")
    faults = [errno.EHOSTUNREACH, errno.EIO]

    def fail_twice(*args, **kwargs):
        if faults and NAME not in str(args[0]):
            raise OSError(faults[0], os.strerror(faults.pop(0)))
        return attempt(*args, **kwargs)

    monkeypatch.setattr(f"{owner}.{method}", fail_twice)
    assert read_all(dataset) == read_folder(folder)
    assert not faults


def test_a_folder_without_a_shard_is_asked_once(tmp_path):
    folder = write_small_shards(tmp_path / "shards", 3)
    dataset = ShardDataset(folder, cache_dir=tmp_path / "c", retry_policy=HASTY)
    (folder / "shard-000000.tar").unlink()
    with pytest.raises(ShardError, match=rf"cannot be fetched from {folder}: No such file"):
        dataset.raw(0)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("exit 3; echo {}", "exit code 3"),
        ("echo gone {} >&2; exit 1", r"tried 3 times: .* exit code 1: gone index\.json"),
        ("sleep 60; echo {}", r"tried 3 times: no byte for 1 s"),
        ("no-such-command {}", r"pipe:.*: the command fails with exit code 127: .*not found"),
    ],
)
def test_a_command_that_fails_is_an_error_with_its_own_words(command, reason):
    with pytest.raises(ShardError, match=rf"index\.json cannot be fetched .*{reason}"):
        ShardDataset(f"pipe:{command}", retry_policy=HASTY)


def test_a_command_that_is_cut_short_is_an_error(folder, tmp_path):
    place = f"pipe:head -c 20000 {folder}/{{}}"  # the manifest is shorter
    dataset = ShardDataset(place, cache_dir=tmp_path / "c", retry_policy=HASTY)
    with pytest.raises(ShardError, match=r"shard-000000\.tar .*received 20000 bytes, expected \d+"):
        dataset.raw(0)
    assert left(tmp_path) == []
