import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from md2dist.config import load_config
from md2dist.data.image_reader import read_image
from md2dist.errors import ImageError
from md2dist.model import MonodepthModel
from md2dist.prediction.colour_maps import colour_disparity
from md2dist.prediction.image_files import find_images, write_depth_png, write_npy
from md2dist.prediction.predictor import frames_predictor, predict_files
from md2dist.prediction.result_files import PredictionOptions
from md2dist.storage.results import prepare_file, write_result
from md2dist.weights import export_published, load_model

COMMAND = Path(__file__).parents[2] / "launch" / "predict.py"
HEIGHT, WIDTH = 64, 96


def make_model(use_stereo):
    torch.manual_seed(0)
    settings = [
        f"data.height={HEIGHT}",
        f"data.width={WIDTH}",
        f"data.use_stereo={use_stereo}",
        "data.frame_offsets=[-1,1]",
        "precision.dtype=fp32",
    ]
    return MonodepthModel.from_config(load_config(overrides=settings)).eval()


@pytest.fixture(scope="module")
def model():
    return make_model(use_stereo=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Folders with the published files of a stereo model and of a monocular one."""
    folders = {True: tmp_path_factory.mktemp("stereo"), False: tmp_path_factory.mktemp("mono")}
    for use_stereo, folder in folders.items():
        export_published(make_model(use_stereo), folder)
    return folders


@pytest.fixture
def image():
    values = np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.fixture
def photographs(tmp_path, image):
    folder = tmp_path / "photographs"
    folder.mkdir()
    image.save(folder / "b.png")
    image.resize((40, 30)).save(folder / "a.JPG", format="JPEG")
    (folder / "notes.txt").write_text("no image")
    (folder / "deeper.png").mkdir()
    return folder


def run_command(monkeypatch, *arguments):
    """Runs the command in this process and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
    try:
        runpy.run_path(str(COMMAND), run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def test_frames_reach_the_model_as_images_from_zero_to_one(model):
    frames = torch.randint(0, 256, (2, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    images = frames.permute(0, 3, 1, 2).double() / 255
    expected = model.predict_scaled_disparity(images.float())
    assert torch.equal(frames_predictor(model)(frames), expected)


def test_an_image_of_the_models_size_is_predicted_as_it_is(model, image):
    image = image.resize((WIDTH, HEIGHT))
    expected = frames_predictor(model)(torch.tensor(np.array(image))[None])[0, 0]
    np.testing.assert_array_equal(model.predict_image(image), expected)


def test_any_size_is_resized_with_lanczos_and_back_bilinearly(model, image):
    small = np.array(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    disparity = frames_predictor(model)(torch.tensor(small)[None])[0, 0].cpu().numpy()
    back = Image.fromarray(disparity).resize((130, 70), Image.Resampling.BILINEAR)
    predicted = model.predict_image(image)
    assert predicted.shape == (70, 130)
    np.testing.assert_allclose(predicted, np.array(back), rtol=1e-5)


@pytest.mark.parametrize("depth_format", ["png", "npy"])
def test_each_image_gets_its_files(model, photographs, tmp_path, depth_format):
    output = tmp_path / "new" / "folder"
    images = find_images(photographs)
    options = PredictionOptions(with_disparity=True)
    written = list(
        predict_files(model, images, output, factor=5.4, depth_format=depth_format, options=options)
    )
    assert [path.name for path in written] == [f"a_depth.{depth_format}", f"b_depth.{depth_format}"]
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [f"{name}_depth.{depth_format}" for name in "ab"]
        + [f"{name}_{kind}.png" for name in "ab" for kind in ("disparity", "picture")]
        + [f"{name}_disparity.npy" for name in "ab"]
    )
    disparity = np.load(output / "b_disparity.npy")
    alone = model.predict_image(read_image(photographs / "b.png"))
    np.testing.assert_allclose(disparity, alone, rtol=1e-6)
    stored = (
        np.load(written[1]) if depth_format == "npy" else np.array(Image.open(written[1])) / 256
    )
    tolerance = {"npy": {"rtol": 1e-6}, "png": {"atol": 0.5 / 256 + 1e-5}}[depth_format]
    np.testing.assert_allclose(stored, np.minimum(5.4 / disparity, 65535 / 256), **tolerance)
    coloured = np.array(Image.open(output / "b_disparity.png"))
    np.testing.assert_array_equal(coloured, colour_disparity(disparity))
    picture = np.array(Image.open(output / "b_picture.png"))
    np.testing.assert_array_equal(picture[:70, :130], np.array(Image.open(photographs / "b.png")))
    np.testing.assert_array_equal(picture[:70, 130:], coloured)


def test_sixteen_bit_depth_survives_the_round_trip_and_saturates(tmp_path):
    depth = np.array([[0.5, 79.99, 1 / 256], [255.99, 300.0, 1e-9]])
    write_depth_png(tmp_path / "depth.png", depth)
    stored = Image.open(tmp_path / "depth.png")
    assert stored.mode == "I;16"
    levels = np.array(stored)
    np.testing.assert_array_equal(levels, [[128, 20477, 1], [65533, 65535, 1]])
    np.testing.assert_allclose(levels[0] / 256, depth[0], atol=0.5 / 256)


def test_npy_depth_is_stored_as_float32(tmp_path):
    depth = np.array([[0.1, 1234.5]])
    write_npy(tmp_path / "depth.npy", depth)
    stored = np.load(tmp_path / "depth.npy")
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, depth.astype(np.float32))


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result"
    path.write_bytes(b"old")

    def write_half(file):
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_result(path, write_half)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_earlier_results_are_no_images(model, photographs):
    before = find_images(photographs)
    list(predict_files(model, before, photographs))
    assert find_images(photographs) == before


def test_images_with_the_same_names_of_results_are_refused(photographs, image):
    image.save(photographs / "b.jpg")
    with pytest.raises(ImageError, match=r"b\.jpg and b\.png .* would have the same names"):
        find_images(photographs)


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
def test_an_unreadable_image_is_named(photographs, content):
    path = photographs / "b.png"
    path.write_bytes(path.read_bytes()[:900] if content == "half" else content)
    with pytest.raises(ImageError, match=r"b\.png cannot be read as an image"):
        read_image(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImageError, match="cannot be written"):
        write_result(tmp_path / "file" / "depth.png", lambda file: file.write(b""))
    for folder in (tmp_path, Path()):
        with pytest.raises(ImageError, match="is a folder; expected the name of a file"):
            write_result(folder, lambda file: file.write(b""))


def test_results_are_not_written_to_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ImageError, match=r"^s3://bucket/a\.json is an address; expected a local path"
    ):
        prepare_file(Path("s3://bucket/a.json"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("use_stereo", [True, False], ids=["stereo", "mono"])
def test_the_command_scales_stereo_models_and_says_that_others_have_no_scale(
    weights, use_stereo, photographs, tmp_path, monkeypatch, capsys
):
    folder = weights[use_stereo]
    base = ["--checkpoint", folder, "--input", photographs / "b.png", "--format", "npy"]
    assert run_command(monkeypatch, *base, "--output", tmp_path / "auto") == 0
    printed = capsys.readouterr().out
    assert ("its depth is relative" in printed) == (not use_stereo)
    assert str(tmp_path / "auto" / "b_depth.npy") in printed
    assert run_command(monkeypatch, *base, "--output", tmp_path / "ten", "--scale", "10") == 0
    assert "its depth is relative" not in capsys.readouterr().out
    automatic = np.load(tmp_path / "auto" / "b_depth.npy")
    tenfold = np.load(tmp_path / "ten" / "b_depth.npy")
    factor = 5.4 if use_stereo else 1.0
    np.testing.assert_allclose(tenfold / automatic, 10 / factor, rtol=1e-6)


def test_the_coarse_steps_of_a_png_without_scale_are_reported_with_the_remedy(
    weights, photographs, tmp_path, monkeypatch, capsys
):
    base = ["--input", photographs / "b.png", "--output", tmp_path / "out", "--checkpoint"]
    for use_stereo, options, is_reported in (
        (False, [], True),
        (False, ["--format", "npy"], False),
        (False, ["--scale", "31.5"], False),
        (True, [], False),
    ):
        assert run_command(monkeypatch, *base, weights[use_stereo], *options) == 0
        printed = capsys.readouterr().out
        words = ("PNG's step of 1/256", "--format npy", "--scale FACTOR", "median ratio")
        assert all((word in printed) == is_reported for word in words), printed


def test_the_command_computes_in_the_given_type(weights, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    image = photographs / "b.png"
    words = ["--checkpoint", weights[True], "--input", image, "--format", "npy"]
    for option, dtype in (("auto", "fp32"), ("fp32", "fp32"), ("bf16", "bf16")):
        output = tmp_path / option
        assert run_command(monkeypatch, *words, "--output", output, "--dtype", option) == 0
        disparity = load_model(weights[True], dtype=dtype).predict_image(read_image(image))
        depth = np.load(output / "b_depth.npy")
        np.testing.assert_allclose(depth, 5.4 / disparity, rtol=1e-6)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--input", "nowhere.png", "nowhere.png does not exist"),
        ("--input", ".", "has no image"),
        ("--scale", "median", "expected auto or a positive number"),
        ("--output", "file/below", "cannot be written"),
        ("--output", "s3://bucket/x", "s3://bucket/x is an address"),
    ],
)
def test_wrong_arguments_end_with_code_2_and_one_line(
    weights, photographs, tmp_path, monkeypatch, capsys, option, value, message
):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    arguments = {
        "--checkpoint": weights[False],
        "--input": photographs,
        "--output": "results",
    } | {option: value}
    words = [word for pair in arguments.items() for word in pair]
    assert run_command(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_missing_checkpoint_ends_the_process_without_a_traceback(photographs, tmp_path):
    paths = {"--checkpoint": tmp_path / "nowhere", "--input": photographs}
    paths["--output"] = tmp_path / "results"
    words = [word for pair in paths.items() for word in pair]
    process = subprocess.run([sys.executable, COMMAND, *words], capture_output=True, text=True)
    assert process.returncode == 2
    assert "nowhere" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "results").exists()
