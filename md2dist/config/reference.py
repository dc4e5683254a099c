"""Reference of all settings: default, meaning and published value, as the schema states them."""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from textwrap import fill
from typing import Any, NamedTuple, get_type_hints

from md2dist.config.schema import Config
from md2dist.errors import ConfigError

_WIDTH = 80  # columns of a terminal


class Setting(NamedTuple):
    """A setting as users write and read about it."""

    name: str  # with its section
    default: str  # as YAML
    meaning: str
    published: str  # value of the paper or its code, "" where it has none


class Section(NamedTuple):
    """The settings of a section."""

    name: str  # "" for the settings without a section
    meaning: str
    settings: tuple[Setting, ...]


def list_sections() -> list[Section]:
    """Lists all settings by section; those without a section are last."""
    sections = [
        Section(name, inspect.getdoc(kind) or "", tuple(_read_fields(kind, f"{name}.")))
        for name, kind in get_type_hints(Config).items()
        if is_dataclass(kind)
    ]
    return [*sections, Section("", "Settings without a section.", tuple(_read_fields(Config, "")))]


def describe_settings(word: str = "") -> str:
    """Describes settings in lines of at most 80 columns.

    Args:
        word: part of the name or of the meaning of each; "" for all settings.

    Raises:
        ConfigError: if no setting has the word.
    """
    blocks = []
    for section in list_sections():
        found = [setting for setting in section.settings if _has(setting, word)]
        if found:
            blocks.append("\n".join([_wrap(section.meaning, ""), *map(_describe, found)]))
    if not blocks:
        names = ", ".join(section.name for section in list_sections() if section.name)
        raise ConfigError(
            f"no setting has {word!r} in its name or meaning; the sections are {names}, and "
            "--settings without a word prints all"
        )
    return "\n\n".join(blocks)


def _has(setting: Setting, word: str) -> bool:
    return word.lower() in f"{setting.name} {setting.meaning}".lower()


def _describe(setting: Setting) -> str:
    head = f"  {setting.name}={setting.default}"
    if setting.published:
        note = f"(published: {setting.published})"
        is_short = len(head) + len(note) < _WIDTH
        head = f"{head}{note:>{_WIDTH - len(head)}}" if is_short else f"{head}\n      {note}"
    return f"{head}\n{_wrap(setting.meaning, '      ')}"


def _wrap(text: str, indent: str) -> str:
    return fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _read_fields(kind: Any, prefix: str) -> Iterator[Setting]:
    """Yields each field of a dataclass that is not a section."""
    source = inspect.getsource(kind)
    lines = source.splitlines()
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if not isinstance(node, ast.AnnAssign) or isinstance(node.value, ast.Call):
            continue
        assert isinstance(node.target, ast.Name)
        assert node.value is not None
        assert node.end_lineno is not None
        line = lines[node.end_lineno - 1].encode()  # offsets of ast count bytes
        comment = line[node.end_col_offset :].decode().strip("# ")
        published = re.search(r"\s*\(published: ([^)]*)\)", comment)
        yield Setting(
            prefix + node.target.id,
            _as_yaml(ast.get_source_segment(source, node.value) or ""),
            (comment.replace(published[0], "") if published else comment).strip(),
            published[1] if published else "",
        )


def _as_yaml(value: str) -> str:
    """Writes a default of the schema as a user writes it.

    >>> _as_yaml("(-1, 1)"), _as_yaml("None"), _as_yaml('"scratch"')
    ('[-1,1]', 'null', 'scratch')
    """
    words = {"None": "null", "True": "true", "False": "false"}
    text = value.strip('"').replace("(", "[").replace(")", "]").replace(", ", ",")
    return words.get(value, text)
