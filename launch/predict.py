"""Predicts the depth of an image, of each image in a folder or a list, or of a video."""

from md2dist.commands.predict import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
