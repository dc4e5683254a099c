"""Times packing (formats), loading (data) or training (step) through the code that users run."""

from md2dist.commands.bench import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
