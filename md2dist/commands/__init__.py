"""Command-line programs, one file each; launch/ and shard_tools/ call their `main()`."""
