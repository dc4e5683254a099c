"""Inspection and verification of shards."""
