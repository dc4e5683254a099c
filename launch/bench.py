"""Benchmarks packing (formats), loading (data), training steps (step), prediction (predict)."""

from md2dist.commands.bench import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
