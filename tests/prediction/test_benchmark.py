import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from md2dist.commands.benchmark import main
from md2dist.config import load_config
from md2dist.model import MonodepthModel
from md2dist.prediction import benchmark
from md2dist.weights import export_published, load_model

PLACE = "depth_selection/test_depth_prediction_anonymous/image"
NAMES = ["0000000000.png", "0000000001.png", "0000000002.png"]
SIZE = (128, 40)  # width, height


@pytest.fixture(autouse=True)
def three_images(monkeypatch):
    """The benchmark has three images instead of 500."""
    monkeypatch.setattr(benchmark, "NUM_IMAGES", 3)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / PLACE
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 256, (*SIZE[::-1], 3), np.uint8)).save(folder / name)
    return folder


@pytest.fixture(params=[True])
def weights(request, tmp_path):
    torch.manual_seed(0)
    settings = ["data.height=64", "data.width=96", f"data.use_stereo={request.param}"]
    model = MonodepthModel.from_config(load_config(overrides=settings))
    export_published(model, tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def run(run_main):
    return partial(run_main, main)


def expected_maps(weights, images, factor):
    """Depth is the factor over the scaled disparity, at most 80 m, in units of 1/256 m."""
    model = load_model(weights)
    return {
        name: np.round(
            np.minimum(factor / model.predict_image(Image.open(images / name)), 80) * 256
        )
        for name in NAMES
    }


def check_maps(opened, weights, images, factor):
    expected = expected_maps(weights, images, factor)
    assert opened.keys() == expected.keys()
    for name, image in opened.items():
        assert (image.mode, image.size) == ("I;16", SIZE)
        np.testing.assert_allclose(np.asarray(image), expected[name], atol=1)


@pytest.mark.parametrize("above", range(4))
def test_the_images_are_found_in_each_folder_above_them(images, above):
    folder = [images, *images.parents][above]
    assert [path.name for path in benchmark.find_benchmark_images(folder)] == NAMES


def test_an_archive_to_upload_holds_the_maps_at_its_root(images, weights, tmp_path, run):
    output = tmp_path / "new" / "submission.zip"
    words = ["--checkpoint", weights, "--input", tmp_path, "--output", output]
    code, out, err = run(*words)
    assert (code, out) == (0, f"3 depth maps in {output}\n"), err
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == NAMES
        assert archive.testzip() is None
        opened = {name: Image.open(archive.open(name)) for name in NAMES}
        check_maps(opened, weights, images, 5.4)
    first = output.read_bytes()
    assert run(*words)[0] == 0
    assert output.read_bytes() == first


def test_a_published_model_is_read_from_the_folder_of_the_weights(images, weights, tmp_path, run):
    weights.rename(tmp_path / "mono+stereo_640x192")
    words = ["--checkpoint", "mono+stereo_640x192", "--weights-dir", tmp_path]
    assert run(*words, "--input", images, "--output", tmp_path / "maps")[0] == 0


def test_a_folder_holds_the_maps(images, weights, tmp_path, run):
    output = tmp_path / "maps"
    words = ["--checkpoint", weights, "--input", images, "--output", output, "--scale", "400"]
    assert run(*words)[0] == 0
    assert sorted(path.name for path in output.iterdir()) == NAMES
    opened = {path.name: Image.open(path) for path in output.iterdir()}
    check_maps(opened, weights, images, 400)
    assert max(np.asarray(image).max() for image in opened.values()) == 80 * 256


@pytest.mark.parametrize("weights", [False], indirect=True)
def test_depth_without_a_scale_needs_a_factor(images, weights, tmp_path, run):
    words = ["--checkpoint", weights, "--input", images, "--output", tmp_path / "a.zip"]
    code, _, err = run(*words)
    assert code == 2
    assert "trained without stereo: its depth has no scale" in err
    assert run(*words, "--scale", "30")[0] == 0


def drop(images):
    (images / NAMES[1]).unlink()


def drop_first(images):
    (images / NAMES[0]).unlink()


def add(images):
    (images / "0000000003.png").touch()


def damage(images):
    (images / NAMES[2]).write_bytes(b"no image")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "has 2 images, expected 0000000000.png to 0000000002.png; missing: 0000000001.png"),
        (drop_first, "has no test images 0000000000.png to 0000000002.png; extract"),
        (add, "has 4 images, expected 0000000000.png to 0000000002.png; extra: 0000000003.png"),
        (damage, NAMES[2]),
    ],
)
def test_other_images_end_with_code_2_one_line_and_no_archive(
    images, weights, tmp_path, run, change, message
):
    change(images)
    output = tmp_path / "new" / "submission.zip"
    code, out, err = run("--checkpoint", weights, "--input", images, "--output", output)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.glob("new/*")) == []


def write_foreign_zip(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "mine")


@pytest.mark.parametrize(
    ("name", "blocked", "names"),
    [
        ("a.zip", "a.zip", ["notes.txt"]),
        ("a.zip", "a.zip", NAMES),
        ("a.zip", "a.zip", []),
        ("maps", f"maps/{NAMES[1]}", []),
    ],
)
def test_only_results_are_replaced(images, weights, tmp_path, run, name, blocked, names):
    words = ["--checkpoint", weights, "--input", images, "--output", tmp_path / name]
    (tmp_path / "maps").mkdir()
    if name.endswith(".zip"):
        write_foreign_zip(tmp_path / blocked, names)
    else:
        Image.open(images / NAMES[1]).save(tmp_path / blocked)
    before = (tmp_path / blocked).read_bytes()
    code, _, err = run(*words)
    assert code == 2
    assert f"{tmp_path / blocked} exists" in err
    assert (tmp_path / blocked).read_bytes() == before
    assert run(*words, "--overwrite")[0] == 0
    assert run(*words)[0] == 0  # its own results
