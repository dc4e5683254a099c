"""End-to-end demo in minutes: render synthetic drives, pack, train, evaluate, predict."""

from md2dist.commands.demo import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
