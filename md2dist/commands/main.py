"""The program `md2dist`, which runs all commands by name."""

import ast
import importlib
import sys
from pathlib import Path

from md2dist.console import prepare_output, print_line, run_command

COMMANDS = (
    "download", "synthesize", "pack", "verify", "inspect",
    "train", "status", "report",
    "evaluate", "evaluate-odometry", "export-ground-truth", "predict", "benchmark",
    "export", "bench", "demo",
)  # fmt: skip


def main() -> None:
    """Runs the command named by the first argument, with the remaining arguments."""
    prepare_output()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        sys.stdout.write(describe_commands())
        return
    if name not in COMMANDS:
        print_line(f"error: md2dist has no command {name}\n\n{describe_commands()}".rstrip())
        sys.exit(2)
    sys.argv = [f"md2dist {name}", *sys.argv[2:]]
    run_command(importlib.import_module(f"md2dist.commands.{module_of(name)}").main)


def module_of(name: str) -> str:
    """Returns the name of a command's module in `md2dist.commands`."""
    return name.replace("-", "_")


def describe_commands() -> str:
    """Returns a list of the commands with the first lines of their docstrings; imports none."""
    lines = ["usage: md2dist COMMAND ...", "", "commands:"]
    for name in COMMANDS:
        source = Path(__file__).with_name(f"{module_of(name)}.py").read_text()
        summary = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        lines.append(f"  {name:21}{summary}")
    lines += ["", "`md2dist COMMAND --help` describes the options of a command."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
