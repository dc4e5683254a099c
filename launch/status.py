"""Prints what a run does now, how far and how fast it is, and what went wrong before."""

from md2dist.commands.status import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
