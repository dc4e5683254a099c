"""Small shards on servers on localhost, and the samples expected from them."""

from pathlib import Path

from helpers.file_server import FileServer

from md2dist.data.shards.dataset import ShardDataset
from md2dist.storage.retries import RetryPolicy

HASTY = RetryPolicy(num_tries=3, first_wait=0.001, timeout=1.0)


def serve_folder(server: FileServer, folder: Path) -> str:
    """Puts the files of a folder on a web server; returns their URL."""
    for path in folder.iterdir():
        server.files[f"{folder.name}/{path.name}"] = path.read_bytes()
    return f"{server.url}/{folder.name}"


def contents(samples) -> list[dict[str, bytes]]:
    """Returns the members of raw samples as bytes, for comparisons."""
    return [{name: bytes(v) for name, v in s.items() if name != "__key__"} for s in samples]


def read_all(dataset: ShardDataset) -> list[dict[str, bytes]]:
    return contents(dataset.stream(range(len(dataset))))


def read_folder(folder: Path) -> list[dict[str, bytes]]:
    dataset = ShardDataset(folder)
    return contents(dataset.raw(i) for i in range(len(dataset)))
