"""Evaluates depth on shards with ground truth: that of a model, or saved predictions."""

from md2dist.commands.evaluate import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
