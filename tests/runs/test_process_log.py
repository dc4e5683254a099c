import logging
import warnings

import pytest
import torch

from md2dist.distributed.world import World
from md2dist.runs.process_log import TerminalFormatter, start_logging


@pytest.fixture
def loggers():
    """Restores our logger and the root logger."""
    found = [logging.getLogger(name) for name in ("md2dist", None)]
    before = [(logger, list(logger.handlers), logger.propagate) for logger in found]
    yield found
    logging.captureWarnings(False)
    for logger, handlers, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate


@pytest.mark.parametrize(("rank", "shown"), [(0, ["ours", "bad"]), (1, ["bad"])])
def test_records_of_libraries_are_in_a_file_and_their_errors_on_the_terminal(
    loggers, tmp_path, capsys, rank, shown
):
    start_logging(str(tmp_path), World(rank, rank, 2, torch.device("cpu")))
    logging.getLogger("md2dist.training").info("ours")
    library = logging.getLogger("some_library")
    library.warning("noise")
    library.error("bad")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("deprecated", stacklevel=1)
    terminal = capsys.readouterr().err
    assert [line.split()[-1] for line in terminal.splitlines()] == shown
    assert "ours" in (tmp_path / "logs" / f"rank-{rank}.log").read_text()
    text = (tmp_path / "logs" / f"libraries-{rank}.log").read_text()
    assert all(word in text for word in ("noise", "bad", "deprecated"))
    assert "ours" not in text


def test_a_terminal_shows_the_time_and_the_level_of_warnings_only():
    record = logging.makeLogRecord({"msg": "disk %s", "args": ("full",), "levelno": logging.INFO})
    assert TerminalFormatter().format(record)[8:] == " disk full"
    record.levelno, record.levelname = logging.WARNING, "WARNING"
    assert TerminalFormatter("rank 3: ").format(record)[8:] == " rank 3: warning: disk full"
