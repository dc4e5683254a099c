"""Published models by name: downloaded once, extracted safely, checked at each use."""

import hashlib
import io
import json
import logging
import re
import zipfile
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import flip_a_byte
from helpers.file_server import serve_files
from test_export import run_command
from test_loading import STEREO, make_model

from md2dist.errors import WeightsError
from md2dist.storage.retries import RetryPolicy
from md2dist.weights import export_published, find_model, initialise, load_model, zoo, zoo_cache
from md2dist.weights.zoo import ALIASES, MODELS, PublishedModel, find_similar
from md2dist.weights.zoo_cache import extract_networks, locate

NAME = "mono+stereo_640x192"
PATH = "mono%2Bstereo_640x192.zip"


@pytest.fixture(scope="module")
def model():
    return make_model(*STEREO, seed=3).eval()


@pytest.fixture(scope="module")
def archive(model, tmp_path_factory):
    """A zip archive of the files of a small model, within a folder."""
    folder = tmp_path_factory.mktemp("files")
    export_published(model, folder)
    return zip_of({f"x/{path.name}": path.read_bytes() for path in folder.iterdir()})


@pytest.fixture
def server(archive, tmp_path, monkeypatch):
    """A server of the archive under the name of a published one, and an empty cache."""
    md5 = hashlib.md5(archive).hexdigest()
    hasty = RetryPolicy(num_tries=3, first_wait=0.001)
    monkeypatch.setattr("md2dist.weights.download.INTERACTIVE", hasty)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS, NAME, PublishedModel(md5))
    with serve_files() as server:
        monkeypatch.setattr(zoo, "BASE_URL", server.url)
        server.files[PATH] = archive
        server.files["mono_odom_640x192.zip"] = archive
        yield server


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "md2dist" / "weights"


def zip_of(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def assert_is(model, loaded):
    assert torch.equal(loaded.encoder.conv1.weight, model.encoder.conv1.weight)


def test_a_name_is_downloaded_once_and_its_licence_said_before(model, server, cache, caplog):
    with caplog.at_level(logging.WARNING, logger="md2dist"):
        assert_is(model, load_model(NAME))
    (message,) = caplog.messages
    assert f"{server.url}/{PATH}" in message
    assert "for non-commercial use only; licence: https://" in message
    assert_is(model, load_model("monodepth2_resnet18_kitti_mono_stereo_640x192"))
    assert find_model(NAME) == (cache / NAME, None)
    other = make_model(*STEREO)
    initialise(other, "scratch", NAME)
    assert_is(model, other)
    assert server.requests == [("GET", f"/{PATH}", None)]
    files = {"encoder.pth", "depth.pth", "source.json"}
    assert {path.name for path in (cache / NAME).iterdir()} == files
    assert {path.name for path in cache.iterdir()} == {NAME, f".{NAME}.lock"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("flip", "its md5 is .*, expected .*--weights-dir"),
        ("404", "the server responds 404 .*; without a network, .* --weights-dir with a folder"),
        ("long", "is not the expected|cannot be downloaded"),
    ],
)
def test_a_failed_download_leaves_no_model(server, cache, fault, words):
    server.faults += [fault] * 9
    with pytest.raises(WeightsError, match=words):
        load_model(NAME)
    assert not (cache / NAME).exists()
    server.faults.clear()
    load_model(NAME)


def test_a_change_in_the_cache_is_noticed(server, cache):
    load_model(NAME)
    flip_a_byte(cache / NAME / "depth.pth", 5000)
    with pytest.raises(WeightsError, match=r"is damaged: its files differ .*; delete it"):
        load_model(NAME)
    (cache / NAME / "source.json").write_text("[]")
    with pytest.raises(WeightsError, match=r"is damaged: its files differ .*; delete it"):
        load_model(NAME)


def test_a_model_without_a_published_digest_gets_one_at_its_first_download(
    server, archive, cache, caplog
):
    digest = hashlib.sha256(archive).hexdigest()
    locate("mono_odom_640x192")
    assert f"no digest of mono_odom_640x192 is published; this is sha256={digest}" in caplog.text
    record = json.loads((cache / "mono_odom_640x192" / "source.json").read_text())
    assert record["sha256"] == digest
    assert locate(f"mono_odom_640x192#sha256={digest}").is_dir()
    other = "0" * 64
    with pytest.raises(WeightsError, match=f"sha256 {digest}, expected {other}"):
        locate(f"mono_odom_640x192#sha256={other}")


def test_a_pin_is_compared_before_the_model_is_used(server, cache):
    with pytest.raises(WeightsError, match=r"its sha256 is .*, expected 0000"):
        locate(f"{NAME}#sha256={'0' * 64}")
    assert not (cache / NAME).exists()
    with pytest.raises(WeightsError, match=r"#sha256= and 64 hexadecimal digits"):
        locate(f"{NAME}#md5=1")


def test_without_a_network_archives_and_folders_are_taken_from_a_folder(
    model, archive, server, tmp_path
):
    place = tmp_path / "carried"
    place.mkdir()
    with pytest.raises(WeightsError, match=rf"carried has neither {PATH.replace('%2B', '.')} nor"):
        load_model(NAME, weights_dir=place)
    (place / f"{NAME}.zip").write_bytes(archive[:-1] + b"!")
    with pytest.raises(WeightsError, match="is not the expected archive: its md5 is"):
        load_model(NAME, weights_dir=place)
    (place / f"{NAME}.zip").write_bytes(archive)
    assert_is(model, load_model(NAME, weights_dir=place))
    assert sorted(path.name for path in place.iterdir()) == [f"{NAME}.zip"]
    export_published(model, place / "stereo_640x192")
    assert find_model("stereo_640x192", place)[0] == place / "stereo_640x192"
    assert server.requests == []


def test_a_path_of_that_name_takes_precedence(model, server, tmp_path):
    export_published(model, tmp_path / NAME)
    assert find_model(NAME) == (tmp_path / NAME, None)
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("mono_640x196", "mono_640x192"),
        ("mono-stereo_1024x320", r"mono\+stereo_1024x320"),
        ("MONO_640x192", "mono_640x192"),
        ("monodepth2_resnet18_kitti_stereo_1024x320", "monodepth2_resnet18_kitti_stereo_640x192"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(WeightsError, match=rf"^{name} is neither .*; did you mean {nearest}[,?]"):
        load_model(name)
    assert find_similar("nowhere") == []


def test_the_names_of_the_other_library_mean_published_models():
    assert len(MODELS) == 11
    assert sum(model.md5 is not None for model in MODELS.values()) == 9
    assert set(ALIASES.values()) == {"mono_640x192", "stereo_640x192", "mono+stereo_640x192"}
    assert "monodepth2_resnet18_posenet_kitti_mono_stereo_640x192" in ALIASES


def test_the_document_has_each_model_with_its_figures_and_commands():
    text = (Path(__file__).parents[2] / "docs" / "model_zoo.md").read_text()
    for name, model in MODELS.items():
        figures = ["" if figure is None else f"{figure:.3f}" for figure in model[1:]]
        assert f"| `{name}` | {' | '.join(figures)} | " in text
        commands = re.search(rf"^### {re.escape(name)}\n\n```bash\n(.*?)```", text, re.M | re.S)[1]
        assert commands.startswith("deepspeed -q launch/train.py --config configs/")
        assert (f"md2dist evaluate --checkpoint {name} " in commands) == (model.abs_rel is not None)
    assert all(f"`{alias}`" in text for alias in ALIASES)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"encoder.pth": b"1"}, "has encoder.pth; expected each of encoder.pth and depth.pth once"),
        ({"a/encoder.pth": b"", "b/encoder.pth": b"", "depth.pth": b""}, "expected each"),
        ({"readme": b"1"}, "has no weights"),
    ],
)
def test_an_archive_without_each_file_once_is_refused(tmp_path, members, words):
    (tmp_path / "x.zip").write_bytes(zip_of(members))
    (tmp_path / "out").mkdir()
    with pytest.raises(WeightsError, match=words):
        extract_networks(tmp_path / "x.zip", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_nothing_of_an_archive_is_written_elsewhere(tmp_path):
    members = {
        "../../encoder.pth": b"1", "/depth.pth": b"2", "../evil.txt": b"3", "../pose.py": b"4",
    }  # fmt: skip
    (tmp_path / "x.zip").write_bytes(zip_of(members))
    (tmp_path / "a" / "out").mkdir(parents=True)
    extract_networks(tmp_path / "x.zip", tmp_path / "a" / "out")
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert files == {"x.zip", "a/out/encoder.pth", "a/out/depth.pth"}


def test_a_file_that_unpacks_to_too_much_and_a_damaged_one_are_refused(tmp_path, monkeypatch):
    content = zip_of({"encoder.pth": b"1" * 99, "depth.pth": b"2" * 99})
    (tmp_path / "x.zip").write_bytes(content.replace(b"1" * 99, b"1" * 98 + b"3"))
    (tmp_path / "out").mkdir()
    with pytest.raises(WeightsError, match="is damaged: Bad CRC-32"):
        extract_networks(tmp_path / "x.zip", tmp_path / "out")
    monkeypatch.setattr(zoo_cache, "_MAX_BYTES", 98)
    with pytest.raises(WeightsError, match="has over 98 bytes"):
        extract_networks(tmp_path / "x.zip", tmp_path / "out")


def test_commands_take_a_name_and_a_folder_of_archives(server, archive, tmp_path, monkeypatch):
    (tmp_path / "carried").mkdir()
    (tmp_path / "carried" / f"{NAME}.zip").write_bytes(archive)
    words = ["--checkpoint", NAME, "--weights-dir", tmp_path / "carried"]
    assert run_command(monkeypatch, *words, "--output", tmp_path / "out") == 0
    assert (tmp_path / "out" / "encoder.pth").exists()


def test_weights_beyond_the_range_of_fp16_start_no_training_in_fp16(tmp_path):
    source = make_model(*STEREO)
    with torch.no_grad():
        source.depth.heads[0].weight[0] = 7e4
    export_published(source, tmp_path)
    initialise(make_model(*STEREO), "scratch", str(tmp_path))
    with pytest.raises(WeightsError, match=r"exceeds 65504, .* set precision\.dtype=bf16"):
        initialise(make_model(*STEREO, "precision.dtype=fp16"), "scratch", str(tmp_path))
