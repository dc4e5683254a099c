"""Damages small shards while keeping the manifest consistent with the damaged files."""

import json
import tarfile
from dataclasses import replace

import numpy as np
from webdataset import TarWriter

from md2dist.data.inspection.verification import verify_shards
from md2dist.data.shards.entry import describe_shard
from md2dist.data.shards.manifest import read_manifest, write_manifest

# The middle one of three shards, with samples 4 to 7, and the keys of all samples.
NAME = "shard-000001.tar"
KEYS = [f"2011_09_26_drive_0001_sync_{'lr'[i % 2]}_{i:010d}" for i in range(10)]


def found(folder, **options):
    """Returns the messages of all faults found in a folder of shards."""
    return [str(fault) for fault in verify_shards(folder, **options).faults]


def read_members(path):
    with tarfile.open(path) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]


def write_members(path, members):
    """Writes a tar and updates its entry in the manifest."""
    offsets, key = [], None
    with TarWriter(str(path), mtime=0, encoder=False) as tar:
        for name, content in members:
            if name.partition(".")[0] != key:
                key = name.partition(".")[0]
                offsets.append(tar.tarstream.offset)
            tar.write({"__key__": key, name.partition(".")[2]: content})
        offsets.append(tar.tarstream.offset)
    rewrite_manifest(path, np.array(offsets))


def rewrite_manifest(path, offsets=None, **changes):
    """Updates a shard's manifest entry to its bytes, except for the fields given in `changes`."""
    manifest = read_manifest(path.parent)
    shards = [
        replace(describe_shard(path, s.offsets if offsets is None else offsets), **changes)
        if s.name == path.name
        else s
        for s in manifest.shards
    ]
    write_manifest(replace(manifest, shards=tuple(shards)), path.parent)


def change_member(folder, key, name, change):
    """Replaces a member by change(content), or removes it for None; tar and manifest stay valid."""
    path = folder / NAME
    members = []
    for full_name, content in read_members(path):
        if full_name == f"{key}.{name}":
            content = change(content)
        if content is not None:
            members.append((full_name, content))
    write_members(path, members)


def change_description(folder, sample_key, **changes):
    def change(content):
        return json.dumps({**json.loads(content), **changes}).encode()

    change_member(folder, sample_key, "json", change)
