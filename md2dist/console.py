"""Output and exit codes of commands."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from md2dist.errors import Md2distError
from md2dist.machine_limits import explain_limit

_ERASE = "\r\x1b[K"  # the line that a progress bar, of this or another process, has begun


def print_line(text: str) -> None:
    """Prints a line on standard error, in place of a progress bar if there is one.

    A failure to write is ignored: it cannot be reported, and the caller may be about to end a job.
    """
    if sys.stderr is None:  # closed by the parent process
        return
    with suppress(OSError):
        sys.stderr.write(f"{_ERASE if sys.stderr.isatty() else ''}{text}\n")
        sys.stderr.flush()


def print_error(message: str) -> None:
    """Prints an error in one line on standard error."""
    print_line(f"error: {message}")


def describe_system_error(error: BaseException) -> str | None:
    """Describes an error of a file or of the system in one line; None for any other error."""
    limit = explain_limit(error)
    if limit is not None or not isinstance(error, OSError):
        return limit
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


class LineHandler(logging.Handler):
    """Prints log records as lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record."""
        print_line(self.format(record))


def escape_unprintable() -> None:
    """Makes standard output and error escape characters that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run_command(main: Callable[[], None]) -> None:
    """Runs a command's ``main``; a user or file error is printed in one line, with exit code 2."""
    escape_unprintable()
    # Torch then prints no stacks of C++ for a lost connection, which is an exception as well.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
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
    except KeyboardInterrupt:
        print_line("interrupted")
        sys.exit(130)
    except Exception as error:  # of a file or a limit, without a message of the command's own
        message = describe_system_error(error)
        if message is None:
            raise
        print_error(message)
        sys.exit(2)


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
