"""Benchmarks packing, loading, a store, steps, their agreement, a start, or prediction."""

from md2dist.commands.bench import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
