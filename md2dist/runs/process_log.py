"""Log of a process: its files in the run's folder, and the part of it that reaches the terminal."""

import logging
import sys
from pathlib import Path

from md2dist.console import LineHandler, PresentableFormatter
from md2dist.distributed.world import World

_FORMAT = "%(asctime)s rank {rank} %(levelname)s %(message)s"


class TerminalFormatter(logging.Formatter):
    """Formats records for people at a terminal: time of day, level unless INFO, message.

    Args:
        prefix: of each message.
    """

    def __init__(self, prefix: str = ""):
        super().__init__(f"%(asctime)s {prefix}%(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, a hook of logging
        """Formats a record, whose message is ready."""
        if record.levelno != logging.INFO:
            record.message = f"{record.levelname.lower()}: {record.message}"
        return super().formatMessage(record)


def start_logging(run_dir: str, world: World) -> None:
    """Starts the log of this process.

    Our records go to `logs/rank-N.log` and to the terminal; of other ranks than the main one, only
    warnings do. Records and warnings of libraries go to `logs/libraries-N.log`, their errors to the
    terminal as well.

    Args:
        run_dir: `log.run_dir`.
        world: this process.
    """
    folder = Path(run_dir) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    rank, is_main = world.rank, world.is_main
    own, libraries = logging.getLogger("md2dist"), logging.getLogger()
    own.setLevel(logging.INFO)
    own.propagate = False
    for logger, name, level in (
        (own, "rank", logging.INFO if is_main else logging.WARNING),
        (libraries, "libraries", logging.ERROR),
    ):
        path = folder / f"{name}-{rank}.log"
        file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace", delay=True)
        formatter = PresentableFormatter(_FORMAT.format(rank=rank))
        formatter.default_msec_format = ""
        file.setFormatter(formatter)
        terminal = LineHandler(level)
        terminal.setFormatter(formatter)
        if sys.stderr is not None and sys.stderr.isatty():
            terminal.setFormatter(TerminalFormatter("" if is_main else f"rank {rank}: "))
        logger.addHandler(file)
        logger.addHandler(terminal)
    logging.captureWarnings(True)
