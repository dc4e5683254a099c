"""What a folder of shards holds, and everything that is wrong with it."""
