"""Prints a data-set card of a folder of shards; draws a contact sheet of random samples."""

from md2dist.commands.inspect import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
