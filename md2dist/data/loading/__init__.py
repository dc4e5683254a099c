"""From shards to batches, in an order that depends on nothing but seed, epoch and position."""
