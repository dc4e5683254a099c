"""The commands, one file each; the programs in launch/ and shard_tools/ call their `main()`."""
