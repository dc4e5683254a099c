"""Benchmark of requests for samples to a store, over kept and over new connections."""

import statistics
import time
from itertools import cycle, islice
from typing import Any

from md2dist.data.shards.manifest import read_manifest
from md2dist.errors import ConfigError
from md2dist.storage.addresses import public_address
from md2dist.storage.open_store import open_store
from md2dist.storage.retries import INTERACTIVE
from md2dist.storage.store import fetch_bytes
from md2dist.storage.web import forget_connections


def bench_requests(address: str, num_requests: int) -> dict[str, Any]:
    """Fetches samples by their byte ranges one after another, in turn over both connections.

    Nothing is cached on this machine. Only web servers have connections that are kept; of the
    others, both figures are the same.

    Args:
        address: of a folder of shards.
        num_requests: number of timed requests of each kind.

    Returns:
        Requests per second, from the median time of one, over kept and over new connections, and
        the conditions of the measurement.

    Raises:
        ConfigError: if there is nothing to time.
        ShardError: if the store keeps failing.
    """
    if num_requests < 1:
        raise ConfigError(f"--repeats {num_requests}: expected >= 1")
    manifest = read_manifest(address, INTERACTIVE)
    store = open_store(address, INTERACTIVE.timeout)
    ranges = [
        (entry.name, (start, stop))
        for entry in manifest.shards
        for start, stop in zip(entry.offsets[:-1].tolist(), entry.offsets[1:].tolist(), strict=True)
    ]
    seconds: dict[str, list[float]] = {"new": [], "kept": []}
    sizes = []
    for name, (start, stop) in islice(cycle(ranges), num_requests):
        for kind, times in seconds.items():
            if kind == "new":
                forget_connections()
            began = time.perf_counter()
            fetch_bytes(store, name, INTERACTIVE, (start, stop), max_bytes=stop - start)
            times.append(time.perf_counter() - began)
        sizes.append(stop - start)
    return {
        "benchmark": "store",
        "requests_per_second": 1 / statistics.median(seconds["kept"]),
        "requests_per_second_new_connections": 1 / statistics.median(seconds["new"]),
        "bytes_per_request": round(statistics.mean(sizes)),
        "requests": num_requests,
        "store": public_address(address),
    }
