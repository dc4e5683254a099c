"""Writes a report of one or several runs: curves, pictures, metrics, settings, data, machine.

    md2dist report runs/mono_stereo --output report.html

The report is a single HTML file that needs neither a network nor scripts. The runs may be running.
"""

import time
from pathlib import Path

from md2dist.commands.options.common import CommandParser, add_overwrite
from md2dist.console import run_command, write_line
from md2dist.errors import ConfigError
from md2dist.storage.results import prepare_file, write_result

MOST_RUNS = 16


def main() -> None:
    """Writes the report, and prints its path."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="HTML file")
    add_overwrite(parser)
    options = parser.parse_args()
    # Late, so that --help appears at once.
    from md2dist.reports.page import is_report, render_report
    from md2dist.reports.run_record import read_run

    if len(options.runs) > MOST_RUNS:
        raise ConfigError(f"{len(options.runs)} runs: expected at most {MOST_RUNS} in one report")
    prepare_file(
        options.output, lambda path: options.overwrite or is_report(path), [".html", ".htm"]
    )
    content = render_report([read_run(folder) for folder in options.runs], time.time())
    write_result(options.output, lambda file: file.write(content))
    write_line(options.output)


if __name__ == "__main__":
    run_command(main)
