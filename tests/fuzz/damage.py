"""Random damage to the bytes and to the structure of files, and what a reader may make of it."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st

from md2dist.console import describe_system_error
from md2dist.errors import Md2distError

# `MD2DIST_FUZZ=100` tries so many times as many examples, other ones each time.
FACTOR = int(os.environ.get("MD2DIST_FUZZ", "0"))

# Values that JSON can hold, and no program expects.
_VALUES = [
    None, True, False, "", "x", "\0", "\x1b[2J", "a\nb", "\u2028", "../../x", "/x", "1", "nan",
    "\ud800", "x" * 300, "\N{WATER WAVE}" * 9000, [], {}, [[]], [0] * 5000, {"x": {"y": [1]}},
    -1, 0, 1, 2, 0.5, -0.0, 1e-300, 1e300, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**40,
    float("nan"), float("inf"), float("-inf"),
    "DEEP LIST", "DEEP DICT", "DIGITS", "EXPONENT", "ESCAPE",
]  # fmt: skip
_RAW = {  # by placeholder: what `json.dumps` does not write
    '"DEEP LIST"': "[" * 3000 + "]" * 3000,
    '"DEEP DICT"': '{"x":' * 3000 + "1" + "}" * 3000,
    '"DIGITS"': "7" * 5000,
    '"EXPONENT"': "1e999999",
    '"ESCAPE"': r'"\ud834\u0000\udd1e"',
}
_PIECES = [
    b"\0",
    b"\xff",
    b"\n",
    b" ",
    b"-",
    b"9",
    b"nan",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\0" * 600,
    b"{",
    b"[" * 2000,
]
_WORDS = [
    b"", b"0", b"-1", b"1", b"nan", b"inf", b"-inf", b"1e400", b"1e-400", b"1e300", b"1e38", b"1e9",
    b"99999999999", b"0x10", b"1_000", b"1,5", b"\xd9\xa3", b"9" * 5000, b"x" * 5000, b"..", b"/",
    b"S_rect_02:", b"P_rect_02:", b"R:", b"\n", b"\r", b"l", b"r", b"\0", b"\x1b[2J",
]  # fmt: skip


def fuzzed(num_examples: int) -> Callable:
    """Returns the settings of a fuzzed test: the same examples each time, and so many of them."""
    return settings(
        max_examples=num_examples * max(FACTOR, 1),
        derandomize=not FACTOR,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged_bytes(draw: Callable, content: bytes) -> bytes:
    """Damages a file at one to three places: bytes change, vanish, appear or are repeated."""
    damaged = content
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(damaged)))
        length = draw(st.integers(1, 1 << draw(st.integers(0, 10))))
        kind = draw(
            st.sampled_from(["flip", "set", "cut", "insert", "delete", "repeat", "zero", "move"])
        )
        end = place + length
        before, part, after = damaged[:place], damaged[place:end], damaged[end:]
        if kind == "flip":
            damaged = (
                before
                + bytes([part[0] ^ 1 << draw(st.integers(0, 7))] if part else b"")
                + part[1:]
                + after
            )
        elif kind == "set":
            damaged = before + bytes([draw(st.integers(0, 255))]) + part[1:] + after
        elif kind == "cut":
            damaged = before
        elif kind == "insert":
            damaged = (
                before
                + draw(st.sampled_from(_PIECES) | st.binary(min_size=1, max_size=8))
                + part
                + after
            )
        elif kind == "delete":
            damaged = before + after
        elif kind == "repeat":
            damaged = before + part * draw(st.integers(2, 4)) + after
        elif kind == "zero":
            damaged = before + bytes(len(part)) + after
        else:
            damaged = before + after + part
    assume(damaged != content)
    return damaged


@st.composite
def damaged_words(draw: Callable, content: bytes) -> bytes:
    """Replaces, removes or repeats one or two words of a text of names and numbers."""
    words = re.split(rb"(\s+)", content)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(words) - 1))
        words[place] = draw(st.sampled_from([*_WORDS, words[place] * 2, b"-" + words[place]]))
    damaged = b"".join(words)
    assume(damaged != content)
    return damaged


@st.composite
def damaged_json(draw: Callable, content: bytes) -> bytes:
    """Damages one or two values of a JSON file: another one, none, or one more."""
    tree = {"": json.loads(content)}
    for _ in range(draw(st.integers(1, 2))):
        holder, key = draw(st.sampled_from(list(_places(tree))))
        value = deepcopy(draw(st.sampled_from(_VALUES)))
        kind = draw(st.sampled_from(["replace", "replace", "near", "remove", "add"]))
        if kind == "near" and isinstance(holder[key], int | float):
            holder[key] = draw(
                st.sampled_from(
                    [
                        -holder[key],
                        holder[key] + 1,
                        holder[key] - 1,
                        holder[key] / 2,
                        str(holder[key]),
                    ]
                )
            )
        elif kind == "remove" and holder is not tree:
            del holder[key]
        elif kind == "add" and isinstance(holder[key], list):
            holder[key].append(value)
        elif kind == "add" and isinstance(holder[key], dict):
            holder[key][
                draw(st.sampled_from(["", "x", "step", "\0", "\ud800", "../x", "0" * 300]))
            ] = value
        else:
            holder[key] = value
    text = json.dumps(tree[""])
    for placeholder, raw in _RAW.items():
        text = text.replace(placeholder, raw)
    return text.encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yields a list or dictionary and a key of it, for every value in a tree."""
    for key in range(len(tree)) if isinstance(tree, list) else list(tree):
        yield tree, key
        if isinstance(tree[key], list | dict):
            yield from _places(tree[key])


def damaged(path: Path) -> st.SearchStrategy[bytes]:
    """Returns damage to the bytes of a file, and to the structure of JSON and of text."""
    content = path.read_bytes()
    anywhere = damaged_bytes(content)
    if path.name.endswith(".json"):
        return damaged_json(content) | damaged_json(content) | anywhere
    return damaged_words(content) | anywhere if path.suffix == ".txt" else anywhere


@contextmanager
def replaced(path: Path, content: bytes) -> Iterator[None]:
    """Replaces the content of a file for the time of a `with` statement."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def outcome_of(action: Callable[[], Any], *names: str) -> Any:
    """Returns the result of an action, or its error if that is one for the user.

    Args:
        action: reads a damaged file.
        *names: of the error's message, one of them must be in it.

    Raises:
        AssertionError: if its message is not one printable line.
        Exception: any other than `run_command` prints in one line.
    """
    try:
        return action()
    except (Md2distError, OSError) as error:
        is_ours = isinstance(error, Md2distError)
        text = str(error) if is_ours else describe_system_error(error)
        assert text.isprintable(), f"not a line for a terminal: {text!r}"
        assert any(name in text for name in names), f"none of {names} in: {text}"
        assert len(text) <= 2000, f"a message of {len(text)} characters: {text[:300]}"
        return error
