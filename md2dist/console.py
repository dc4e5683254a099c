"""Error output and exit codes of commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from md2dist.errors import Md2distError


def print_error(message: str) -> None:
    """Prints an error in one line on standard error."""
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()


def run_command(main: Callable[[], None]) -> None:
    """Runs a command's ``main``; a user or file error is printed in one line, with exit code 2."""
    try:
        try:
            main()
        except BaseException:
            with suppress(OSError):  # report the first error
                _flush_output()
            raise
        _flush_output()
    except Md2distError as error:
        print_error(str(error))
        sys.exit(2)
    except BrokenPipeError:  # the reader closed the pipe, e.g. `... | head`
        sys.exit(141)
    except OSError as error:  # a file error without a message of the command's own
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def _flush_output() -> None:
    """Flushes standard output; if that fails, discards the output and raises the OSError."""
    if sys.stdout is None:  # closed by the parent process
        return
    try:
        sys.stdout.flush()
    except OSError:
        # Python would flush again at exit and fail with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
