"""Predicts the depth of an image, of each image in a folder, or of a list of images."""

from md2dist.commands.predict import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
