"""End-to-end demo in minutes: render drives, pack, train, evaluate, draw a depth picture."""

from md2dist.commands.demo import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
