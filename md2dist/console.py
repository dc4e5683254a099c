"""How a command prints errors, ends and exits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

from md2dist.errors import Md2distError


def print_error(message: str) -> None:
    """Tells the user of an error, in one line on the terminal."""
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()


def run_command(main: Callable[[], None]) -> None:
    """Runs a command's ``main``: an error of use or of a file becomes one line and exit code 2."""
    try:
        try:
            main()
        except BaseException:
            with suppress(OSError):  # the first error is the one to be told
                _flush_output()
            raise
        _flush_output()
    except Md2distError as error:
        print_error(str(error))
        sys.exit(2)
    except BrokenPipeError:  # nobody reads on, as in `... | head`
        sys.exit(141)
    except OSError as error:  # of a file for which the command has no words of its own
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def _flush_output() -> None:
    """Lets an OSError pass if what was printed cannot be written, and gives it up."""
    if sys.stdout is None:  # closed by whoever started the command
        return
    try:
        sys.stdout.flush()
    except OSError:
        # It would be tried again at the end of the process, and fail with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
