"""Folders of shards: manifest, tar samples, and access to them by number."""
