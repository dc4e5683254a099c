"""Prints what a run does now, how far and how fast it is, and what went wrong before.

    md2dist status runs/mono_stereo

It reads the run's folder alone, from any terminal or node, and changes nothing.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from md2dist.commands.options.common import CommandParser
from md2dist.console import print_error, run_command, write_lines
from md2dist.errors import RunError


def main() -> None:
    """Prints the status of each run; exit code 2 if one of them is no run."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--json", action="store_true", help="print a JSON array, one object a run")
    options = parser.parse_args()
    # Late, so that --help appears at once.
    from md2dist.reports.run_record import read_run
    from md2dist.reports.run_state import describe_state
    from md2dist.reports.status_text import format_status

    states, errors = [], []
    for folder in options.runs:
        try:
            states.append(describe_state(read_run(folder), time.time()))
        except RunError as error:
            errors.append(error)
    if options.json:
        write_lines(json.dumps([asdict(state) for state in states], indent=2, allow_nan=False))
    elif states:
        write_lines("\n\n".join(map(format_status, states)))
    for error in errors:
        print_error(str(error))
    if errors:
        sys.exit(2)


if __name__ == "__main__":
    run_command(main)
