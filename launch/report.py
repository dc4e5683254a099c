"""Writes a report of one or several runs: curves, pictures, metrics, settings, data, machine."""

from md2dist.commands.report import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
