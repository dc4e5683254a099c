"""Output and exit codes of commands.

Whatever is printed is harmless to a terminal and holds no secrets: control characters, as file
names may have them, are escaped, and addresses are in their public form.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress

from md2dist.errors import Md2distError, escape
from md2dist.machine_limits import explain_limit
from md2dist.storage.addresses import public_text, remember_addresses

_ERASE = "\r\x1b[K"  # the line that a progress bar, of this or another process, has begun


def make_presentable(text: str) -> str:
    """Masks secrets in a text of any origin, and escapes control characters, tabs aside."""
    return "".join(letter if letter in "\n\t" else escape(letter) for letter in public_text(text))


def write_line(text: object) -> None:
    """Prints a result in one line on standard output.

    Raises:
        OSError: if it cannot be written.
    """
    write_lines(str(text).replace("\n", "\\n"))


def write_lines(text: str) -> None:
    """Prints a result of any number of lines on standard output.

    Raises:
        OSError: if it cannot be written.
    """
    if sys.stdout is not None:  # closed by the parent process
        sys.stdout.write(f"{make_presentable(text)}\n")


def wrap_line(text: str, indent: int) -> str:
    """Breaks a line between words if standard output is a terminal, which would break words.

    Args:
        text: the line.
        indent: columns by which all lines but the first are indented.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        return text
    return textwrap.fill(
        text,
        shutil.get_terminal_size().columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_line(text: str) -> None:
    """Prints a line on standard error, in place of a progress bar if there is one.

    A failure to write is ignored: it cannot be reported, and the caller may be about to end a job.
    """
    if sys.stderr is None:  # closed by the parent process
        return
    with suppress(OSError):
        erase = _ERASE if sys.stderr.isatty() else ""
        sys.stderr.write(f"{erase}{make_presentable(text)}\n")
        sys.stderr.flush()


def print_error(message: str) -> None:
    """Prints an error in one line on standard error."""
    print_line("error: " + message.replace("\n", "\\n"))


def describe_system_error(error: BaseException) -> str | None:
    """Describes an error of a file or of the system in one line; None for any other error."""
    limit = explain_limit(error)
    if limit is not None or not isinstance(error, OSError):
        return limit
    return escape(f"{error.filename}: {error.strerror}" if error.filename else str(error))


class LineHandler(logging.Handler):
    """Prints log records as lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record."""
        print_line(self.format(record))


class PresentableFormatter(logging.Formatter):
    """Formats log records without secrets and control characters, for files as well."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        return make_presentable(super().format(record))


def prepare_output() -> None:
    """Makes all output of this process presentable, and able to show any file name.

    Standard output and error escape characters that their encoding lacks; uncaught exceptions and
    records of loggers without a handler are masked.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    remember_addresses(sys.argv[1:])
    logging.lastResort = LineHandler(logging.WARNING)
    sys.excepthook = lambda kind, error, trace: _print_exception(error)
    threading.excepthook = _print_failure_of_thread


def run_command(main: Callable[[], None]) -> None:
    """Runs a command's ``main``; a user or file error is printed in one line, with exit code 2."""
    prepare_output()
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


def _print_failure_of_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_type is not SystemExit:
        print_line(f"exception in thread {failure.thread.name if failure.thread else '?'}")
        _print_exception(failure.exc_value)


def _print_exception(error: BaseException | None) -> None:
    if error is not None:
        print_line("".join(traceback.format_exception(error)).rstrip())


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
