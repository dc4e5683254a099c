"""Store behind a command that writes files to its standard output, as in WebDataset."""

import os
import select
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from typing import IO

from md2dist.errors import ShardError
from md2dist.storage.addresses import is_masked, mask_secrets, public_address
from md2dist.storage.store import CHUNK, ByteRange, StoreError
from md2dist.storage.typed_json import make_printable

_LONGEST_REASON = 1000  # bytes of the command's error output
_NO_COMMAND = (126, 127)  # exit codes of a shell that cannot run it


class PipeStore:
    """Store behind a shell command that writes a file to its standard output.

    Args:
        url: ``pipe:`` and the command, with ``{}`` for the name of the file.
        timeout: s without a byte before the command counts as hanging.

    Raises:
        ShardError: if the command has no ``{}``, or was stored without its secrets.
    """

    def __init__(self, url: str, timeout: float):
        self.url = public_address(url)
        self._address = url
        self._command = url.removeprefix("pipe:").strip()
        self._timeout = timeout
        if "{}" not in self._command:
            raise ShardError(
                f"{self.url} has no {{}} for the name of the file; expected, for example, "
                "'pipe:ssh store cat /data/{}'"
            )
        if is_masked(url):
            raise ShardError(
                f"{url} was stored without its secrets (***); give the whole command again, or "
                "let it read them from the environment, as $TOKEN"
            )

    def read(self, name: str, byte_range: ByteRange | None = None) -> Iterator[bytes]:
        """Yields the bytes of a file."""
        assert byte_range is None, "has_ranges says so"
        try:
            yield from self._run(self._command.replace("{}", shlex.quote(name)))
        except OSError as error:  # of this machine, e.g. no memory for a process
            raise StoreError(error, is_transient=True) from None

    def size(self, name: str) -> None:
        """Returns None: the size of a file is unknown before it is read."""

    def has_ranges(self, name: str) -> bool:
        """Returns False: a file is read as a whole."""
        return False

    def _run(self, command: str) -> Iterator[bytes]:
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command,
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # so that all processes of a pipeline can be killed
            )
            assert process.stdout is not None
            try:
                yield from self._read_output(process.stdout)
                code = process.wait(self._timeout)
            except subprocess.TimeoutExpired:
                raise StoreError("the command does not exit", is_transient=True) from None
            finally:
                process.stdout.close()
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            if code:
                reason = mask_secrets(_last_line(errors), self._address)
                raise StoreError(
                    f"the command fails with exit code {code}{reason and ': ' + reason}",
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
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LONGEST_REASON))
    lines = stream.read().decode(errors="replace").strip().splitlines()
    return make_printable(lines[-1]) if lines else ""
