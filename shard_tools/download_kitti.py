"""Downloads the KITTI raw archives: all 66 (175 GB), or those of selected drives."""

from md2dist.commands.download import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
