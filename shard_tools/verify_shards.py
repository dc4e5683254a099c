"""Checks a folder of shards and lists all faults; exit code 1 if there are any."""

from md2dist.commands.verify import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
