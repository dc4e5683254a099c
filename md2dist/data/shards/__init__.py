"""Shard folders: manifest, tar samples, and random access by sample number."""

from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.manifest import Manifest, read_manifest
from md2dist.data.shards.recipe import Recipe

__all__ = ["Manifest", "Recipe", "ShardDataset", "read_manifest"]
