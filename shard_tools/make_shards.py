"""Packs KITTI or own videos into WebDataset shards: resized once, shuffled, with a manifest."""

from md2dist.commands.pack import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
