"""Commands, one per file; the programs in launch/ and shard_tools/ call their `main()`."""
