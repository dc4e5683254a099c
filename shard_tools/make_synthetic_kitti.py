"""Renders synthetic drives with exact geometry in the KITTI raw layout."""

from md2dist.commands.synthesize import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
