import json
import os
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import pytest

from md2dist.errors import ShardError
from md2dist.storage.bounded import read_bounded
from md2dist.storage.typed_json import (
    Count,
    Digest,
    FileName,
    Items,
    Label,
    Number,
    parse_json,
    read_json,
)


class Place(NamedTuple):
    name: FileName
    start: Count = 0


@dataclass(frozen=True)
class Inner:
    ratio: Number = 1.0


@dataclass(frozen=True)
class Record:
    step: Count
    kind: Literal["a", "b"] = "a"
    title: Label = ""
    digest: Digest = "0" * 64
    inner: Inner = Inner()
    places: Items[Place] = field(default_factory=list)
    limit: int | None = None


def test_a_record_is_filled_and_what_a_later_version_adds_is_ignored():
    text = '{"step": 3, "inner": {"ratio": 2}, "places": [["a.tar", 5]], "limit": null, "x": [{}]}'
    record = parse_json("\ufeff".encode() + text.encode(), Record)
    assert record == Record(3, inner=Inner(2.0), places=[Place("a.tar", 5)])


def test_a_name_that_is_given_twice_has_its_last_value():
    assert parse_json('{"step": 1, "step": 2}', Record).step == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is not JSON: EOF"),
        ("[]", "the content: expected an object"),
        ("{}", "step is missing"),
        ('{"step": "3"}', "step is '3', expected a valid integer"),
        ('{"step": true}', "step is True, expected a valid integer"),
        ('{"step": 1.0}', "step is 1.0, expected a valid integer"),
        ('{"step": -1}', "step is -1, expected greater than or equal to 0"),
        ('{"step": 1e400}', "step is inf, expected a valid integer"),
        (f'{{"step": {2**63}}}', "step is 9223372036854775808, expected less than"),
        (f'{{"step": {"9" * 5000}}}', "it is not JSON: number out of range"),
        (f'{{"step": 1, "x": {"9" * 5000}}}', "it is not JSON: number out of range"),
        (f'{{"step": {"9" * 4000}}}', "step is 9999.*9999, expected less than"),
        ('{"step": 1, "kind": "c"}', "kind is 'c', expected 'a' or 'b'"),
        ('{"step": 1, "inner": {"ratio": NaN}}', "inner.ratio is nan, expected a finite number"),
        ('{"step": 1, "inner": {"ratio": 1e999}}', "inner.ratio is inf, expected a finite number"),
        ('{"step": 1, "digest": "AB"}', "digest is 'AB', string should match"),
        (f'{{"step": 1, "digest": "{"a" * 64}\\n"}}', "digest is .*, string should match"),
        ('{"step": 1, "places": [["a", 1], ["b", "x"]]}', "places.1.1 is 'x', expected a valid"),
        ('{"step": 1, "title": "\\ud800"}', "it is not JSON"),
        (b'{"step": 1, "title": "\xff"}', "it is not JSON: invalid unicode"),
        ("[" * 20_000, "it is not JSON: recursion limit exceeded"),
        (f'{{"step": 1, "x": {"[" * 20_000}{"]" * 20_000}}}', "recursion limit exceeded"),
    ],
)
def test_anything_else_is_named_in_one_short_line(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_json(text, Record)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0", "a\n", "\x1b[2J", "x" * 256]
)
def test_a_file_name_is_plain(name):
    with pytest.raises(ValueError, match=r"places\.0\.0 is .*, expected a file name"):
        parse_json(json.dumps({"step": 1, "places": [[name]]}), Record)


def test_text_for_display_does_not_reach_the_terminal_as_commands():
    assert parse_json('{"step": 1, "title": "a\\u001b[2Jé\\u0000"}', Record).title == "a?[2Jé?"
    with pytest.raises(ValueError, match=r"^a\?b is 'x'"):
        parse_json('{"a\\u001bb": "x"}', dict[str, int])


def test_a_long_list_is_rejected_at_its_first_wrong_item():
    with pytest.raises(ValueError, match=r"places\.0: Field required|places\.0"):
        parse_json('{"step": 1, "places": [' + "[]," * 200_000 + "[]]}", Record)


def test_a_damaged_file_is_named_with_the_field_and_the_remedy(tmp_path):
    path = tmp_path / "record.json"
    path.write_text('{"step": {}}')
    words = r"record\.json is damaged: step: expected a valid integer; copy it$"
    with pytest.raises(ShardError, match=words):
        read_json(path, Record, ShardError, "copy it")
    path.write_text('{"step": 4}')
    assert read_json(path, Record, ShardError, "copy it").step == 4


def test_no_more_than_the_bound_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bounded(path, 4)
    os.truncate(path, 1 << 40)  # sparse
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bounded(path, 4)


def test_what_never_ends_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link", "/dev/zero", tmp_path):
        with pytest.raises(OSError, match="it is not a regular file"):
            read_bounded(path, 100)
