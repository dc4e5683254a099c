"""Benchmarks packing (formats), data loading (data) or training steps (step)."""

from md2dist.commands.bench import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
