"""From shards to batches, in an order that depends on nothing but seed, epoch and position."""

from md2dist.data.loading.loader import make_loader
from md2dist.data.loading.order import GlobalOrder

__all__ = ["GlobalOrder", "make_loader"]
