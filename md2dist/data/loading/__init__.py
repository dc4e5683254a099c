"""Batches from shards, in an order that depends on seed, epoch and position alone."""

from md2dist.data.loading.loader import Workers, make_loader
from md2dist.data.loading.order import GlobalOrder

__all__ = ["GlobalOrder", "Workers", "make_loader"]
