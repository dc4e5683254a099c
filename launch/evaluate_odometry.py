"""Evaluates a model's motion along a packed odometry sequence."""

from md2dist.commands.evaluate_odometry import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
