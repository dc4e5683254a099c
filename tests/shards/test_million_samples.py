"""Planning of a dataset of a million samples, in little memory."""

import subprocess
import sys

import numpy as np
import pytest

from md2dist.data.shards.entry import ShardEntry
from md2dist.data.shards.manifest import Manifest, write_manifest
from md2dist.data.shards.recipe import Recipe

NUM_SHARDS, PER_SHARD = 4000, 250
PLAN = """
import re, sys
from pathlib import Path
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.loading.read_plan import plan_reading
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.topology import Topology

def peak_mb():  # of this process alone, which resource.getrusage does not report
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000

before = peak_mb()
dataset = ShardDataset(sys.argv[1])
order = GlobalOrder(dataset.manifest.shard_sizes, seed=0, global_batch_size=96, window_shards=16)
plan = plan_reading(dataset, order, 0, Topology(world_size=16, node_size=8))
print(peak_mb() - before, plan.num_samples, plan.total_samples)
"""


@pytest.fixture
def folder(tmp_path):
    entries = [
        ShardEntry(
            name=f"shard-{number:06d}.tar",
            num_bytes=PER_SHARD * 500_000 + 1024,
            sha256=f"{number:064x}",
            count=PER_SHARD,
            offsets=500_000 * np.arange(PER_SHARD + 1),
            crc32=np.arange(PER_SHARD, dtype=np.uint32),
        )
        for number in range(NUM_SHARDS)
    ]
    recipe = Recipe("a/million", 192, 640, (-1, 1), use_stereo=True, samples_per_shard=PER_SHARD)
    write_manifest(Manifest(recipe, tuple(entries)), tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_million_samples_are_planned_in_200_mb(folder):
    done = subprocess.run(
        [sys.executable, "-c", PLAN, str(folder)], capture_output=True, text=True, check=True
    )
    megabytes, num_samples, total_samples = map(float, done.stdout.split())
    assert total_samples == NUM_SHARDS * PER_SHARD
    assert num_samples == total_samples // 96 * 48
    assert megabytes < 200
