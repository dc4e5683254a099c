from dataclasses import replace

import pytest
from helpers.small_shards import write_small_shards

from md2dist.data.inspection.data_card import describe_shards
from md2dist.data.shards.manifest import read_manifest, write_manifest
from md2dist.errors import ShardError


def test_a_card_lists_counts_sizes_intrinsics_and_gaps(tmp_path):
    card = describe_shards(write_small_shards(tmp_path, 10, ground_truth="velodyne"))
    facts = dict(line.split("  ", 1) for line in card.splitlines() if "  " in line)
    facts = {name: text.strip() for name, text in facts.items()}
    num_bytes = sum(path.stat().st_size for path in tmp_path.glob("*.tar"))
    assert facts["samples"] == "10 in 3 shards, 0 skipped"
    assert facts["bytes"].startswith(f"{num_bytes / 1000:.1f} kB")
    assert facts["images"] == "png, views 0 -1 +1 s"
    assert facts["packed size"] == "32x64 (10)"
    assert facts["ground truth"] == "velodyne"
    assert facts["native size"] == "64x128 (10)"
    assert facts["fx"] == "38.4 px = 0.600 W"
    assert facts["cx"] == "31.4 to 40.4 px = 0.490 to 0.631 W"
    assert facts["baseline"] == "0.540 m"
    assert card.splitlines()[-1].split() == [
        "2011_09_26_drive_0001_sync", "5", "5", "100.0%", "0-9", "0", "0",
    ]  # fmt: skip


def test_a_card_of_damaged_shards_points_to_verify_shards(tmp_path):
    write_small_shards(tmp_path, 10)
    path = tmp_path / "shard-000001.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ShardError, match=r"shard-000001\.tar .*md2dist verify"):
        describe_shards(tmp_path)


def test_a_card_counts_sides_and_gaps_drive_by_drive(tmp_path):
    write_small_shards(tmp_path, 10, samples_per_shard=1)
    manifest = read_manifest(tmp_path)
    kept = [manifest.shards[i] for i in (0, 1, 2, 4, 9)]
    write_manifest(replace(manifest, shards=tuple(kept)), tmp_path)
    cells = describe_shards(tmp_path).splitlines()[-1].split()
    assert cells == ["2011_09_26_drive_0001_sync", "3", "2", "100.0%", "0-9", "2", "4"]
