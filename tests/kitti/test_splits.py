import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from md2dist.data.kitti.splits import SplitLine, read_split
from md2dist.errors import SplitError

DRIVE = "2011_09_26/2011_09_26_drive_0005_sync"


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("eigen_zhou/train", 39810),
        ("eigen_zhou/val", 4424),
        ("eigen_full/train", 45200),
        ("eigen_full/val", 1776),
        ("benchmark/train", 72084),
        ("benchmark/val", 6060),
        ("eigen/test", 697),
        ("eigen_benchmark/test", 652),
    ],
)
def test_the_published_lists_are_read_whole(shared, name, count):
    lines = read_split(shared / "splits" / f"{name}_files.txt")
    assert len(lines) == count
    assert len({line.key for line in lines}) == count


def test_padded_and_plain_frame_numbers_mean_the_same(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text(f"{DRIVE} 65 r\n\n  {DRIVE}  0000000066 l \n")
    assert read_split(path) == [SplitLine(DRIVE, 65, "r"), SplitLine(DRIVE, 66, "l")]


def test_a_sequence_of_odometry_has_two_digits(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("9 0 l\n09 000001 r\n")
    lines = read_split(path)
    assert lines == [SplitLine("09", 0, "l"), SplitLine("09", 1, "r")]
    assert [str(line) for line in lines] == ["09 0 l", "09 1 r"]
    assert [line.key for line in lines] == ["09_l_0000000000", "09_r_0000000001"]


@given(frame=st.integers(0, 10**10 - 1), side=st.sampled_from("lr"))
def test_a_line_survives_being_written_and_a_key_has_no_dots(tmp_path_factory, frame, side):
    line = SplitLine(DRIVE, frame, side)
    path = tmp_path_factory.getbasetemp() / "one_line.txt"
    path.write_text(str(line))
    assert read_split(path) == [line]
    assert line.key == f"2011_09_26_drive_0005_sync_{side}_{frame:010d}"


@pytest.mark.parametrize(
    "text",
    [
        "image 0",
        f"{DRIVE} {'1' * 5000} l",
        f"{DRIVE} 1 l\N{BYTE ORDER MARK}",
        "100 0 l",
        f"{DRIVE} 65",
        f"{DRIVE} 65 x",
        f"{DRIVE} -1 l",
        f"../{DRIVE} 1 l",
    ],
)
def test_a_line_that_does_not_parse_is_quoted_with_its_number(tmp_path, text):
    path = tmp_path / "split.txt"
    path.write_text(f"{DRIVE} 1 l\n{text}\n")
    with pytest.raises(SplitError) as caught:
        read_split(path)
    message = str(caught.value)
    assert f"split.txt, line 2: {text[:200]!r}"[:-1] in message
    assert len(message) < 500
    assert "DATE/DRIVE FRAME SIDE" in message


def test_a_repeated_line_is_refused(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text(f"{DRIVE} 1 l\n{DRIVE} 2 l\n{DRIVE} 0001 l\n")
    with pytest.raises(SplitError, match=r"line 3: .* repeats line 1"):
        read_split(path)


def test_drives_whose_samples_would_share_their_names_are_refused(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("day1/run1 0 l\nday1/run1 0 r\nday2/run1 00 l\n")
    words = r"line 3: 'day2/run1 00 l' has a drive of the same name as line 1; rename one"
    with pytest.raises(SplitError, match=words):
        read_split(path)


def test_a_drive_whose_name_is_too_long_for_a_shard_is_refused(tmp_path):
    path, drive = tmp_path / "split.txt", f"day1/{'x' * 73}"
    path.write_text(f"{drive} 1 l\n")
    (line,) = read_split(path)
    header = tarfile.TarInfo(f"{line.key}.annotated.npz").tobuf(tarfile.PAX_FORMAT)
    assert len(header) == tarfile.BLOCKSIZE
    path.write_text(f"{drive}x 1 l\n")
    words = "split.txt, line 1: .* name of 87 characters; expected at most 86, .* shorter name"
    with pytest.raises(SplitError, match=words):
        read_split(path)


def test_an_empty_and_an_absent_and_a_binary_file_are_refused(tmp_path):
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text("\n\n")
    binary.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(SplitError, match="empty"):
        read_split(empty)
    for path in (binary, tmp_path / "absent.txt"):
        with pytest.raises(SplitError, match=r"absent|binary"):
            read_split(path)


def test_a_list_that_an_editor_or_a_shell_of_windows_has_written_means_the_same(tmp_path):
    path, text = tmp_path / "split.txt", f"{DRIVE} 65 r\r\n{DRIVE}\t66 l\r\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert read_split(path) == [SplitLine(DRIVE, 65, "r"), SplitLine(DRIVE, 66, "l")]


def test_a_sequence_may_have_any_name_but_not_that_of_a_drive_without_its_date(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("walk_1 65 r\n2024_05_01-park 7 l\n")
    assert read_split(path) == [SplitLine("walk_1", 65, "r"), SplitLine("2024_05_01-park", 7, "l")]
    for name in ("2011_09_26_drive_0005_sync", "2011_09_26_drive_0005", "123", "a.b"):
        path.write_text(f"{name} 65 r\n")
        with pytest.raises(SplitError, match="expected DATE/DRIVE FRAME SIDE"):
            read_split(path)
