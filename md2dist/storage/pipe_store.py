"""A command that writes files to its output as a store, as WebDataset has them."""

import os
import select
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from typing import IO

from md2dist.errors import ShardError
from md2dist.storage.store import CHUNK, ByteRange, StoreError

_NO_COMMAND = (126, 127)  # exit codes of a shell that cannot run it


class PipeStore:
    """A shell command that writes a file to its standard output.

    Args:
        url: ``pipe:`` and the command; the file's name stands in place of each ``{}``.
        timeout: s without a byte before the command counts as stuck.

    Raises:
        ShardError: if the command has no place for the name.
    """

    def __init__(self, url: str, timeout: float):
        self.url = url
        self._command = url.removeprefix("pipe:").strip()
        self._timeout = timeout
        if "{}" not in self._command:
            raise ShardError(
                f"{url} has no {{}} where a file's name shall stand; "
                "expected, for example, 'pipe:ssh store cat /data/{}'"
            )

    def read(self, name: str, byte_range: ByteRange | None = None) -> Iterator[bytes]:
        """Yields the bytes of a file."""
        assert byte_range is None, "has_ranges says so"
        try:
            yield from self._run(self._command.replace("{}", shlex.quote(name)))
        except OSError as error:  # of this machine, which may be short of something
            raise StoreError(error, is_transient=True) from None

    def size(self, name: str) -> None:
        """Does not know the bytes of a file."""

    def has_ranges(self, name: str) -> bool:
        """Tells that a file comes whole."""
        return False

    def _run(self, command: str) -> Iterator[bytes]:
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command,
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # so that all of a pipeline can be ended
            )
            assert process.stdout is not None
            try:
                yield from self._read_output(process.stdout)
                code = process.wait(self._timeout)
            except subprocess.TimeoutExpired:
                raise StoreError("the command does not end", is_transient=True) from None
            finally:
                process.stdout.close()
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            if code:
                told = _last_line(errors)
                raise StoreError(
                    f"the command ends with exit code {code}{told and ': ' + told}",
                    is_transient=code not in _NO_COMMAND,
                )

    def _read_output(self, output: IO[bytes]) -> Iterator[bytes]:
        poll = select.poll()
        poll.register(output)
        while True:
            if not poll.poll(self._timeout * 1000):
                raise StoreError(f"no byte for {self._timeout:g} s", is_transient=True)
            if not (piece := os.read(output.fileno(), CHUNK)):
                return
            yield piece


def _last_line(stream: IO[bytes]) -> str:
    stream.seek(0)
    return (stream.read().decode(errors="replace").strip().splitlines() or [""])[-1]
