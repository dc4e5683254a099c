"""Predicts the 500 test images of KITTI's depth prediction benchmark, for its server."""

from md2dist.commands.benchmark import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
