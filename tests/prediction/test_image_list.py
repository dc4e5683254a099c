import io
import os
import sys
from pathlib import Path

import pytest
from helpers.image_bytes import random_image
from test_finite_results import make_model
from test_predict import run_command

from md2dist.errors import ImageError
from md2dist.prediction import image_list
from md2dist.prediction.image_list import read_image_list
from md2dist.weights import export_published


def read(content):
    return read_image_list(io.BytesIO(content))


def test_paths_are_read_in_their_order_with_any_line_ends_and_bytes():
    content = b"b dir/z.png\r\na.JPG\n\n stra\xdfe.png"
    expected = [Path("b dir/z.png"), Path("a.JPG"), Path(os.fsdecode(b" stra\xdfe.png"))]
    assert read(content) == expected


@pytest.mark.parametrize("content", [b"", b"\n\r\n\n"])
def test_an_empty_list_is_refused(content):
    with pytest.raises(ImageError, match="the list on standard input is empty; expected paths"):
        read(content)


def test_what_is_no_list_of_paths_is_refused(monkeypatch):
    with pytest.raises(ImageError, match=r"has a zero byte in line 2; .*one per line"):
        read(b"a.png\nb.png\0c.png")
    with pytest.raises(ImageError, match=r"x/a\.png and y/a\.jpg would have the same names"):
        read(b"x/a.png\nb.png\ny/a.jpg")
    with pytest.raises(ImageError, match=r"x/a\.png is listed twice; list it once"):
        read(b"x/a.png\nx/a.png")
    monkeypatch.setattr(image_list, "_MAX_BYTES", 10)
    with pytest.raises(ImageError, match="more than 10 bytes; pass it in parts"):
        read(b"0123456.png")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    export_published(make_model(), folder)
    return folder


class Stream(io.StringIO):
    """A text stream that may be a terminal."""

    def __init__(self, has_terminal):
        super().__init__()
        self.has_terminal = has_terminal

    def isatty(self):
        return self.has_terminal


@pytest.mark.parametrize("has_terminal", [False, True])
def test_the_command_predicts_a_list_and_shows_a_bar_on_a_terminal_only(
    weights, tmp_path, monkeypatch, capsys, has_terminal
):
    for name in ("a", "b"):
        random_image().save(tmp_path / f"{name}.png")
    os.mkfifo(tmp_path / "pipe.png")
    names = ["b.png", "nowhere.png", "pipe.png", "a.png"]
    paths = [tmp_path / name for name in names]
    content = io.TextIOWrapper(io.BytesIO("\n".join(map(str, paths)).encode()))
    monkeypatch.setattr(sys, "stdin", content)
    monkeypatch.setattr(sys, "stderr", Stream(has_terminal))
    words = ["--checkpoint", weights, "--input", "-", "--output", tmp_path / "out", "--disparity"]
    assert run_command(monkeypatch, *words) == 2
    errors = sys.stderr.getvalue()
    assert "nowhere.png cannot be read: No such file" in errors
    assert "pipe.png cannot be read: it is not a regular file" in errors
    assert "error: 2 of 4 images could not be read" in errors
    assert ("\r" in errors) == ("images/s]" in errors) == has_terminal
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [str(tmp_path / "out" / f"{name}_depth.png") for name in "ba"]
    assert len(list((tmp_path / "out").iterdir())) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fov", "80"], "--fov is for point clouds alone; add --point-cloud"),
        (["--max-depth", "80"], "--max-depth is for point clouds alone"),
        (["--intrinsics", "1,2"], "--intrinsics 1,2: expected fx,fy,cx,cy"),
        (["--point-cloud", "--max-depth", "0"], "--max-depth 0: expected a number > 0"),
        (["--point-cloud", "--max-depth", "nan"], "--max-depth nan: expected a number > 0"),
        (["--input", "-"], "the list on standard input is empty"),
    ],
)
def test_wrong_options_end_with_one_line_and_no_result(
    tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    random_image().save(tmp_path / "a.png")
    base = ["--checkpoint", tmp_path, "--input", tmp_path / "a.png", "--output", tmp_path / "out"]
    assert run_command(monkeypatch, *base, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
