"""Store in a bucket of S3 or of a compatible service."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from md2dist.errors import ShardError
from md2dist.storage.addresses import mask_secrets, public_address
from md2dist.storage.store import NUM_AT_ONCE, ByteRange, StoreError

_CHUNK = 1 << 15  # bytes, which boto3 waits for: at the lowest accepted speed, half a minute
# Error codes for expired credentials, which may have been renewed meanwhile.
_OUTDATED = ("ExpiredToken", "ExpiredTokenException", "InvalidToken", "RequestExpired")


class S3Store:
    """Store below a prefix of a bucket; endpoint, region and credentials are configured in boto3.

    Args:
        url: ``s3://bucket/prefix``.
        timeout: s without a byte before a connection counts as broken.

    Raises:
        ShardError: if the URL names no bucket, or boto3 is not installed.
    """

    def __init__(self, url: str, timeout: float):
        self.url = public_address(url)
        self._whole_url = url
        # Of the whole address: keys may hold ? and #, which begin a secret elsewhere.
        server, _, prefix = url.removeprefix("s3://").partition("/")
        self._bucket = server.rpartition("@")[2]
        self._prefix = prefix.strip("/")
        self._timeout = timeout
        self._was_answered = False  # then missing credentials are a transient fault
        if not self._bucket:
            raise ShardError(f"{self.url} names no bucket; expected s3://bucket/prefix")
        if importlib.util.find_spec("boto3") is None:
            raise ShardError(f"{self.url} needs boto3; install it with pip install boto3")

    def read(self, name: str, byte_range: ByteRange | None = None) -> Iterator[bytes]:
        """Yields the bytes of an object, or of a part of it."""
        headers = {"Range": f"bytes={byte_range[0]}-{byte_range[1] - 1}"} if byte_range else {}
        with self._open() as client:
            response = client.get_object(**self._address(name), **headers)
            yield from response["Body"].iter_chunks(_CHUNK)

    def size(self, name: str) -> int:
        """Returns the size of an object in bytes."""
        with self._open() as client:
            return client.head_object(**self._address(name))["ContentLength"]

    def has_ranges(self, name: str) -> bool:
        """Returns True: any byte range of an object can be read."""
        return True

    def _address(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}".lstrip("/")}

    def _describe(self, error: Exception) -> str:
        """Returns the message of an error, which may quote the address of an object."""
        return mask_secrets(unquote(str(error)), self._whole_url) or type(error).__name__

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Yields a client, and raises its errors as a `StoreError`."""
        from botocore import exceptions
        from urllib3.exceptions import HTTPError

        transient = (
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
                _open_client.cache_clear()  # the next client reads them again
                is_transient = True
            raise StoreError(
                self._describe(error), is_transient=is_transient, is_missing=status == 404
            ) from None
        except exceptions.NoCredentialsError as error:
            # Also raised if the metadata service of the node is too busy to return them.
            _open_client.cache_clear()  # a client reads them once
            raise StoreError(self._describe(error), is_transient=self._was_answered) from None
        except exceptions.BotoCoreError as error:
            raise StoreError(
                self._describe(error), is_transient=isinstance(error, transient)
            ) from None
        except ValueError as error:
            hint = "AWS_ENDPOINT_URL must be a complete URL such as http://host:9000"
            reason = f"{self._describe(error)}; {hint}"
            raise StoreError(reason, is_transient=False) from None
        except (HTTPError, OSError) as error:  # while a body is read, which boto3 hardly covers
            raise StoreError(self._describe(error), is_transient=True) from None


@lru_cache(2)
def _open_client(process: int, timeout: float) -> Any:
    """Opens the client of one process, shared by its threads; sockets do not survive a fork."""
    from boto3.session import Session
    from botocore.config import Config

    retry_policy = {"total_max_attempts": 1}  # `with_retries` covers the reading of the body too
    config = Config(
        connect_timeout=timeout,
        read_timeout=timeout,
        retries=retry_policy,
        max_pool_connections=NUM_AT_ONCE,
    )
    return Session().client("s3", config=config)
