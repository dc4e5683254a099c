"""Inspection of shards: verification and data-set card."""
