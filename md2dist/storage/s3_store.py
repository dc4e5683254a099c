"""A prefix of a bucket as a store: S3, or whatever speaks its protocol."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from md2dist.errors import ShardError
from md2dist.storage.store import CHUNK, NUM_AT_ONCE, ByteRange, StoreError

# What is answered to credentials whose time is over, be there new ones in their place or not.
_OUTDATED = ("ExpiredToken", "ExpiredTokenException", "InvalidToken", "RequestExpired")


class S3Store:
    """A prefix of a bucket; boto3 finds endpoint, region and credentials in its usual places.

    Args:
        url: ``s3://bucket/prefix``.
        timeout: s without a byte before a connection counts as broken.

    Raises:
        ShardError: if the address names no bucket, or boto3 is not installed.
    """

    def __init__(self, url: str, timeout: float):
        self.url = url
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = prefix.strip("/")
        self._timeout = timeout
        self._was_answered = False  # so there are credentials, and where they lack they come back
        if not self._bucket:
            raise ShardError(f"{url} names no bucket; expected s3://bucket/prefix")
        if importlib.util.find_spec("boto3") is None:
            raise ShardError(f"{url} needs boto3; install it with pip install 'md2dist[s3]'")

    def read(self, name: str, byte_range: ByteRange | None = None) -> Iterator[bytes]:
        """Yields the bytes of an object, or of a part of it."""
        asked = {"Range": f"bytes={byte_range[0]}-{byte_range[1] - 1}"} if byte_range else {}
        with self._ask() as client:
            answer = client.get_object(**self._place(name), **asked)
            yield from answer["Body"].iter_chunks(CHUNK)

    def size(self, name: str) -> int:
        """Returns the bytes of an object."""
        with self._ask() as client:
            return client.head_object(**self._place(name))["ContentLength"]

    def has_ranges(self, name: str) -> bool:
        """Tells that an object can be read from any byte on."""
        return True

    def _place(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}".lstrip("/")}

    @contextmanager
    def _ask(self) -> Iterator[Any]:
        """Gives a client, and tells what fails with it as a `StoreError`."""
        from botocore import exceptions
        from urllib3.exceptions import HTTPError

        passing = (
            exceptions.HTTPClientError,
            exceptions.ConnectionError,
            exceptions.IncompleteReadError,
            exceptions.CredentialRetrievalError,
        )
        try:
            yield _open_client(os.getpid(), self._timeout)
            self._was_answered = True
        except exceptions.ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            is_transient = status >= 500 or status in (408, 429)
            if error.response["Error"].get("Code") in _OUTDATED:
                _open_client.cache_clear()  # the next one looks for them anew
                is_transient = True
            raise StoreError(error, is_transient=is_transient, is_missing=status == 404) from None
        except exceptions.NoCredentialsError as error:
            # A node's metadata service that is too busy to give them looks the same.
            _open_client.cache_clear()  # they are looked for once per client
            raise StoreError(error, is_transient=self._was_answered) from None
        except exceptions.BotoCoreError as error:
            raise StoreError(error, is_transient=isinstance(error, passing)) from None
        except ValueError as error:
            reason = f"{error}; AWS_ENDPOINT_URL must be a whole address such as http://host:9000"
            raise StoreError(reason, is_transient=False) from None
        except (HTTPError, OSError) as error:  # in the middle of a body, where boto3 hardly looks
            raise StoreError(error, is_transient=True) from None


@lru_cache(2)
def _open_client(process: int, timeout: float) -> Any:
    """Connects for one process, whose threads may share the client: no socket survives a fork."""
    from boto3.session import Session
    from botocore.config import Config

    retry_policy = {"total_max_attempts": 1}  # the tries are ours, since reading may fail as well
    config = Config(
        connect_timeout=timeout,
        read_timeout=timeout,
        retries=retry_policy,
        max_pool_connections=NUM_AT_ONCE,
    )
    return Session().client("s3", config=config)
