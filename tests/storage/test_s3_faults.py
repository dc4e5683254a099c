"""Faults of an object store, simulated by a web server."""

import re
from functools import partialmethod
from pathlib import Path

import pytest
from botocore.credentials import CredentialResolver
from botocore.exceptions import CredentialRetrievalError
from helpers.file_server import serve_files
from helpers.object_store import SETTINGS
from helpers.remote_shards import HASTY, read_all, read_folder
from helpers.small_shards import write_small_shards
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import DecodeError, SSLError
from urllib3.response import HTTPResponse

from md2dist.data.shards.dataset import ShardDataset
from md2dist.errors import ShardError
from md2dist.storage.s3_store import _open_client


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_small_shards(tmp_path_factory.mktemp("shards"), 3)


@pytest.fixture
def server(folder, monkeypatch):
    """Answers as S3 does, as far as reading goes; boto3 finds it."""
    _open_client.cache_clear()
    with serve_files() as server:
        for path in folder.iterdir():
            server.files[f"bucket/shards/{path.name}"] = path.read_bytes()
        for name, value in {**SETTINGS, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        yield server
    _open_client.cache_clear()


def open_shards(tmp_path: Path) -> ShardDataset:
    return ShardDataset("s3://bucket/shards", cache_dir=tmp_path / "cache", retry_policy=HASTY)


def start_without_credentials(monkeypatch) -> None:
    """Does to boto3 what a silent metadata service does."""
    _open_client.cache_clear()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")


@pytest.mark.parametrize("fault", ["500", "503", "429", "cut:1000", "cut:0", "stall:1000"])
def test_an_object_store_is_asked_again_that_once(server, folder, tmp_path, fault):
    dataset = open_shards(tmp_path)
    before = len(server.ranges)
    server.faults += [fault, fault]
    assert read_all(dataset) == read_folder(folder)
    assert len(server.ranges) == before + 3 + 2


def test_a_key_may_hold_what_begins_a_secret_in_other_addresses(server, folder, tmp_path):
    for path in folder.iterdir():
        server.files[f"bucket/a%3Fb%23c/{path.name}"] = path.read_bytes()
    dataset = ShardDataset("s3://bucket/a?b#c", cache_dir=tmp_path, retry_policy=HASTY)
    assert read_all(dataset) == read_folder(folder)


def test_an_error_shows_no_part_of_a_key_that_may_be_a_secret(monkeypatch, server):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    _open_client.cache_clear()
    with pytest.raises(ShardError, match="Could not connect") as caught:
        ShardDataset("s3://bucket/a?token=5ecret/word", retry_policy=HASTY)
    assert not re.search("5ecret|word", str(caught.value))


def test_a_short_body_is_noticed_by_boto3_where_urllib3_does_not_count(
    server, folder, tmp_path, monkeypatch
):
    as_urllib3_1 = partialmethod(HTTPConnectionPool.urlopen, enforce_content_length=False)
    monkeypatch.setattr(HTTPConnectionPool, "urlopen", as_urllib3_1)
    dataset = open_shards(tmp_path)
    server.faults += ["cut:1000"]
    assert read_all(dataset) == read_folder(folder)


@pytest.mark.parametrize("kind", [SSLError, DecodeError, OSError])
@pytest.mark.parametrize("num_faults", [2, 99])
def test_what_breaks_off_a_body_passes_or_ends_as_an_error(
    server, folder, tmp_path, monkeypatch, kind, num_faults
):
    dataset = open_shards(tmp_path)
    faults, read = num_faults * ["the line is bad"], HTTPResponse.read

    def fail(*args, **kwargs):
        if faults:
            raise kind(faults.pop())
        return read(*args, **kwargs)

    monkeypatch.setattr(HTTPResponse, "read", fail)
    if num_faults == 2:
        assert read_all(dataset) == read_folder(folder)
    else:
        with pytest.raises(ShardError, match=r"shard-000000\.tar .*: tried 3 times: the line is"):
            dataset.raw(0)


@pytest.mark.parametrize(
    ("fault", "num_tries", "reason"),
    [("403", 1, r"shards: .*\(403\)"), ("500", 3, r"shards: tried 3 times: .*\(500\)")],
)
def test_an_object_store_that_always_fails_is_an_error_that_names_the_shard(
    server, tmp_path, fault, num_tries, reason
):
    dataset = open_shards(tmp_path)
    before = len(server.ranges)
    server.faults += 99 * [fault]
    with pytest.raises(
        ShardError, match=rf"shard-000000\.tar cannot be fetched from s3://.*{reason}"
    ):
        dataset.raw(0)
    assert len(server.ranges) == before + num_tries


def test_an_endpoint_that_is_no_address_is_an_error_with_the_remedy(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    reason = r"Invalid endpoint: minio:9000; AWS_ENDPOINT_URL must be .* http://host:9000"
    with pytest.raises(ShardError, match=rf"index\.json cannot be fetched from s3://.*: {reason}"):
        open_shards(tmp_path)


def test_without_boto3_the_error_names_a_package_that_can_be_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ShardError, match=r"needs boto3; install it with pip install boto3$"):
        ShardDataset("s3://bucket/shards")


def test_missing_credentials_are_not_waited_for(server, tmp_path, monkeypatch):
    start_without_credentials(monkeypatch)
    with pytest.raises(ShardError, match=r"s3://bucket/shards: Unable to locate credentials"):
        open_shards(tmp_path)


def test_credentials_that_were_there_are_waited_for(server, folder, tmp_path, monkeypatch):
    dataset = open_shards(tmp_path)
    dataset.check_files()
    with monkeypatch.context() as patch:
        start_without_credentials(patch)
        with pytest.raises(ShardError, match=r"tried 3 times: Unable to locate credentials"):
            dataset.raw(0)
    assert read_all(dataset) == read_folder(folder)  # another client has read them


def test_a_service_of_credentials_that_fails_is_asked_again(server, folder, tmp_path, monkeypatch):
    dataset = open_shards(tmp_path)
    _open_client.cache_clear()
    faults = ["too many requests"] * 2
    load = CredentialResolver.load_credentials

    def fail_twice(resolver):
        if faults:
            raise CredentialRetrievalError(provider="container-role", error_msg=faults.pop())
        return load(resolver)

    monkeypatch.setattr(CredentialResolver, "load_credentials", fail_twice)
    assert read_all(dataset) == read_folder(folder)
    assert not faults


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "RequestExpired"])
def test_credentials_that_were_renewed_are_taken_up(server, folder, tmp_path, monkeypatch, code):
    dataset = open_shards(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
    server.faults += [f"400 {code}"]
    assert read_all(dataset) == read_folder(folder)
    assert "Credential=renewed/" in (server.last_signature or "")


def test_credentials_that_are_not_renewed_are_an_error_in_the_stores_words(server, tmp_path):
    dataset = open_shards(tmp_path)
    server.faults += 99 * ["400 ExpiredToken"]
    with pytest.raises(ShardError, match=r"shards: tried 3 times: .*\(ExpiredToken\)"):
        dataset.raw(0)


@pytest.mark.parametrize("status", ["400", "401", "403"])
def test_an_object_store_that_refuses_to_answer_is_not_said_to_lack_shards(
    server, tmp_path, status
):
    dataset = open_shards(tmp_path)
    server.head_fault = status
    with pytest.raises(ShardError, match=rf"^shard-000000\.tar cannot be fetched .*\({status}\)"):
        dataset.check_files()
    server.head_fault = "404"
    with pytest.raises(ShardError, match=r"1 of 1 shards in s3://.* are missing .*\(404\)"):
        dataset.check_files()
