"""Folders of pictures as people have them: foreign files, odd names, bad images, old results."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.image_bytes import random_image
from PIL import Image
from test_finite_results import make_model

from md2dist.errors import ImageError
from md2dist.prediction.image_files import find_images, refuse_foreign_results
from md2dist.prediction.predictor import predict_files
from md2dist.storage.results import holds_figures, lock_folder, prepare_file, write_json
from md2dist.weights import export_published

COMMAND = Path(__file__).parents[2] / "launch" / "predict.py"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    export_published(make_model(), folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        random_image().convert("RGB").save(folder / name)
    return folder


def predict(weights, folder, output, *words, **environment):
    command = [sys.executable, COMMAND, "--checkpoint", weights, "--input", folder]
    return subprocess.run(
        [*command, "--output", output, *words],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )


def test_dot_files_are_no_images(folder):
    before = find_images(folder)
    for name in ("._a.png", ".b.jpg", ".DS_Store", "._.DS_Store"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert find_images(folder) == before


def test_only_results_of_predictions_are_left_out_of_the_images(folder, tmp_path):
    own = folder / "street_picture.png"
    random_image().save(own)
    images = find_images(folder)
    assert own in images
    list(predict_files(make_model(), images, folder))
    assert find_images(folder) == images


def test_results_of_earlier_versions_without_a_mark_are_no_images(folder):
    images = find_images(folder)
    for ending in ("depth", "disparity", "picture"):
        random_image().save(folder / f"a_{ending}.png")
    assert find_images(folder) == images


@pytest.mark.slow
def test_the_others_are_predicted_if_an_image_cannot_be_read(weights, folder, tmp_path):
    (folder / "aa.png").write_bytes(b"no image")
    done = predict(weights, folder, tmp_path / "out")
    assert done.returncode == 2
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith(f"error: {folder}/aa.png cannot be read as an image")
    assert lines[1].startswith("error: 1 of 3 images could not be read and have no results")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    kinds = ("depth", "disparity", "picture")
    assert names == {f"{stem}_{kind}.png" for stem in "ab" for kind in kinds}


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "utf-8"},
    ],
)
def test_no_name_ends_the_work_or_controls_the_terminal(weights, tmp_path, environment):
    folder = tmp_path / "frames"
    folder.mkdir()
    names = [b"stra\xdfe", "straße".encode(), b"\x1b[31mred\x07", b"two\nlines", b"x" * 240]
    for name in names:
        random_image().save(os.fsencode(folder) + b"/" + name + b".png")
    (folder / "\x1b[2Jbad.png").write_bytes(b"no image")
    done = predict(weights, folder, tmp_path / "out", **environment)
    output = done.stdout + done.stderr
    assert done.returncode == 2
    assert b"Traceback" not in output
    assert not {7, 27} & set(output)
    assert b"\\x1b[2Jbad.png cannot be read" in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 3 * len(names)


def test_results_replace_results_and_no_other_files(folder, tmp_path):
    images, output, model = find_images(folder), tmp_path / "out", make_model()
    for depth_format in ("png", "npy"):
        list(predict_files(model, images, output, depth_format=depth_format))
        refuse_foreign_results(images, output, depth_format)
    foreign = output / "b_depth.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(foreign)
    with pytest.raises(ImageError, match=r"b_depth\.png exists, .* pass --overwrite"):
        refuse_foreign_results(images, output, "png")
    depth = np.load(output / "a_depth.npy")
    assert (depth.dtype, depth.shape) == (np.float32, Image.open(images[0]).size[::-1])
    np.save(output / "a_depth.npy", depth)  # also beside marked pictures, and of the same kind
    with pytest.raises(ImageError, match=r"a_depth\.npy exists"):
        refuse_foreign_results(images, output, "npy")


@pytest.mark.slow
def test_the_command_replaces_foreign_files_on_request_only(weights, folder, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "a_picture.png").write_text("mine")
    refused = predict(weights, folder, output)
    assert refused.returncode == 2
    assert b"a_picture.png exists" in refused.stderr
    assert [path.read_text() for path in output.iterdir()] == ["mine"]
    for words in (["--overwrite"], []):
        assert predict(weights, folder, output, *words).returncode == 0
    Image.open(output / "a_picture.png").verify()


@pytest.mark.parametrize("content", ['{"a": 1}', "notes", "", "[]", "[" * 100_000, "[1]"])
def test_figures_replace_figures_and_no_other_files(tmp_path, content):
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(ImageError, match="exists, and is not such a result of md2dist"):
        prepare_file(path, lambda path: holds_figures(path, "benchmark"))
    for figures in ({"benchmark": "step"}, [{"benchmark": "formats"}]):
        write_json(path, figures)
        prepare_file(path, lambda path: holds_figures(path, "benchmark"))


def test_a_device_is_no_result_file():
    with pytest.raises(ImageError, match="/dev/null is not a regular file"):
        prepare_file(Path("/dev/null"))


def test_writers_of_one_output_leave_whole_files_only(folder, tmp_path):
    images, model = find_images(folder), make_model()
    writers = [
        threading.Thread(target=lambda: list(predict_files(model, images, tmp_path / "out")))
        for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    paths = list((tmp_path / "out").iterdir())
    assert len(paths) == 6
    for path in paths:
        Image.open(path).verify()


def test_a_locked_folder_of_results_is_refused_to_another_writer(tmp_path):
    with (
        lock_folder(tmp_path / "new"),
        pytest.raises(ImageError, match="another process is writing"),
        lock_folder(tmp_path / "new"),
    ):
        pass
    with lock_folder(tmp_path / "new"):
        pass


def test_a_folder_that_cannot_be_locked_is_named_and_used(tmp_path, monkeypatch, caplog):
    def flock(descriptor, operation):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # as NFS does

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock_folder(tmp_path):
        assert f"{tmp_path} cannot be locked against other processes" in caplog.text
