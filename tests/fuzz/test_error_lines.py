"""Errors that a user can cause are one line, whatever they name."""

import pickle

import pytest

from md2dist.console import describe_system_error
from md2dist.errors import ConfigError, ShardError


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb.png", r"a\nb.png"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\udcff", r"\udcff"),
        ("\u2028", r"\u2028"),
        ("Straße 1 水", "Straße 1 水"),
    ],
)
def test_a_message_is_one_printable_line_whatever_it_names(name, shown):
    assert str(ShardError(f"{name} is damaged")) == f"{shown} is damaged"
    assert (
        describe_system_error(FileNotFoundError(2, "No such file", name))
        == f"{shown}: No such file"
    )


def test_of_a_long_message_begin_and_end_are_shown():
    message = str(ConfigError(f"seed={'7' * 10**6}: expected < 2**63"))
    assert len(message) < 3100
    assert message.startswith("seed=777")
    assert message.endswith("777: expected < 2**63")


def test_an_error_of_a_worker_process_arrives_unchanged():
    error = pickle.loads(pickle.dumps(ShardError("a\nb")))
    assert (type(error), str(error)) == (ShardError, r"a\nb")
