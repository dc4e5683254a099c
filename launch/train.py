"""Trains a model, under the deepspeed launcher or as a single process."""

from md2dist.commands.train import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
