"""Predicts the depth of an image, or of each image in a folder."""

from md2dist.commands.predict import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
