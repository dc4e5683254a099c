"""Finds everything that is wrong with a folder of shards; exit code 1 if anything is."""

from md2dist.commands.verify import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
