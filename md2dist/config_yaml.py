"""Bounded reading of YAML, from files and from values on the command line.

The text may be anything: its size, its nesting, its aliases and its numbers are checked before
anything is built from it.
"""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from md2dist.errors import ConfigError
from md2dist.storage.addresses import public_text
from md2dist.storage.bounded import read_text

_MAX_BYTES = 1 << 20  # of a settings file
_MAX_DEPTH = 20  # levels; settings have three
_MAX_VALUES = 100_000  # with those that aliases repeat
_MAX_LENGTH = 3500  # characters of a value; PyYAML takes minutes to parse a long base-60 number
_MAX_INT = 2**64
_MAX_TEXT, _MAX_REASON = 10_000, 300  # letters of a message, before and after it is shortened


def read_yaml(path: Path, name: str) -> Any:
    """Reads a YAML file.

    Args:
        path: the file.
        name: name of the file, for messages.

    Returns:
        Nested dictionaries, lists and plain values.

    Raises:
        ConfigError: if it is not text, not YAML, or exceeds a bound.
        OSError: if it cannot be read, or is not a regular file.
    """
    text = read_text(path, name, ConfigError, _MAX_BYTES)
    load = partial(OmegaConf.load, io.StringIO(text))
    return _parse(text, f"{name} cannot be parsed as YAML", load)


def parse_value(text: str, name: str) -> Any:
    """Parses a YAML value, such as `[-1, 1]`.

    Args:
        text: the value.
        name: what it is the value of, for messages.

    Raises:
        ConfigError: if it is not YAML, or exceeds a bound.
    """
    parsed = _parse(text, name, partial(OmegaConf.from_dotlist, [f"value={text}"]))
    return parsed["value"]


def shorten(text: object) -> str:
    """Returns a text of any length in one line of an error message."""
    line = public_text(" ".join(str(text)[:_MAX_TEXT].split()))
    return line if len(line) <= _MAX_REASON else f"{line[:_MAX_REASON]}..."


def _parse(text: str, name: str, load: Callable[[], Any]) -> Any:
    try:
        _check_structure(text)
        content = OmegaConf.to_container(load())
        _check_numbers(content)
    except Exception as error:  # constructors of tags such as !!int raise errors of many types
        raise ConfigError(f"{name}: {shorten(error)}") from None
    return content


def _check_structure(text: str) -> None:
    """Raises a ValueError if a document is nested too deeply, or aliases make it too large.

    It follows the events of the parser, which need no recursion.
    """
    open_starts: list[tuple[str | None, int]] = []  # anchor, and number of values before it
    sizes: dict[str, int] = {}  # values of anchors, with what their aliases repeat
    num_values = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_starts):
                raise ValueError(f"*{event.anchor} is inside of itself, {line}")
            num_values += sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_starts.append((event.anchor, num_values))
            num_values += 1
            if len(open_starts) > _MAX_DEPTH:
                raise ValueError(f"nested deeper than {_MAX_DEPTH} levels, {line}")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_starts.pop()
            if anchor is not None:
                sizes[anchor] = num_values - before
        elif isinstance(event, yaml.ScalarEvent):
            num_values += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
            if len(event.value) > _MAX_LENGTH:
                raise ValueError(f"a value of {len(event.value)} characters, {line}")
        if num_values > _MAX_VALUES:
            raise ValueError(f"more than {_MAX_VALUES:,} values, with repeated ones, {line}")


def _check_numbers(content: Any) -> None:
    """Raises a ValueError if an integer fits no field."""
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            _check_numbers(value)
    elif isinstance(content, int) and not -_MAX_INT <= content <= _MAX_INT:
        raise ValueError("an integer beyond 2**64")
