"""Exports a trained model: as published weights, as safetensors, or as ONNX."""

from md2dist.commands.export import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
