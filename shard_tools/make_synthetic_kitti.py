"""Renders synthetic drives with exact geometry in the layout of KITTI raw."""

from md2dist.commands.synthesize import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
