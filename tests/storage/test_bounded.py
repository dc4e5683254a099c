import codecs
import os
from pathlib import Path

import pytest

from md2dist.errors import SplitError
from md2dist.storage.bounded import decode_text, read_text

TEXT = "a: 1\nb: ä\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_text_is_read_as_any_editor_writes_it(tmp_path, content):
    assert decode_text(content, "the file", SplitError) == TEXT
    (tmp_path / "file").write_bytes(content)
    assert read_text(tmp_path / "file", "the file", SplitError, len(content)) == TEXT


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\n\xffb", r"the file is not text in UTF-8 \(invalid start byte at byte 5\); save"),
        (b"\xff\xfe\x00", r"the file is not text in UTF-8 \(truncated data at byte 2\)"),
        (b"a\nb\0", "the file has a zero byte in line 2; expected a text file"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(content, words):
    with pytest.raises(SplitError, match=words) as caught:
        decode_text(content, "the file", SplitError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_a_file_that_may_not_end_is_refused(tmp_path, kind):
    path = Path("/dev/zero") if kind == "device" else tmp_path / "pipe"
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        read_text(path, "it", SplitError, 1000)
