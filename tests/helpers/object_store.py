"""S3 server on localhost, in a separate process, with one bucket."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

BUCKET = "shards"
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "user",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def serve_objects() -> Iterator[dict[str, str]]:
    """Starts a server with an empty bucket; yields the environment variables for boto3."""
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while not (found := re.search(r"Running on (http://\S+)", Path(log.name).read_text())):
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.05)
            settings = {**SETTINGS, "AWS_ENDPOINT_URL": found[1]}
            connect(settings).create_bucket(Bucket=BUCKET)
            yield settings
        finally:
            process.kill()
            process.wait()


def connect(settings: dict[str, str]):
    return boto3.client(
        "s3",
        endpoint_url=settings["AWS_ENDPOINT_URL"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        region_name=settings["AWS_DEFAULT_REGION"],
    )


def upload(folder: Path, settings: dict[str, str], prefix: str) -> str:
    """Uploads the files of a folder to the bucket; returns their URL."""
    client = connect(settings)
    for path in folder.iterdir():
        client.upload_file(str(path), BUCKET, f"{prefix}/{path.name}")
    return f"s3://{BUCKET}/{prefix}"
