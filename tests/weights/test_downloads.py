import pytest

from md2dist.config import load_config
from md2dist.model import MonodepthModel
from md2dist.weights import list_downloads
from md2dist.weights.imagenet import TORCHVISION_SHA256, TORCHVISION_URL
from md2dist.weights.zoo import address_of

NAME = f"resnet18-{TORCHVISION_SHA256[18][:8]}.pth"


@pytest.fixture(scope="module")
def model():
    return MonodepthModel.from_config(load_config(overrides=["data.height=64", "data.width=64"]))


def test_weights_that_are_not_on_this_machine_are_listed_once(model, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    imagenet, published = f"{TORCHVISION_URL}{NAME}", address_of("mono_640x192")
    assert list_downloads(model, "imagenet") == [imagenet]
    assert list_downloads(model, "imagenet", "mono_640x192") == [published]
    both = list_downloads(model, "imagenet", "mono_640x192", ["depth"])
    assert both == [published, imagenet]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / NAME).touch()
    (tmp_path / "md2dist" / "weights" / "mono_640x192").mkdir(parents=True)
    assert list_downloads(model, "imagenet", "mono_640x192", ["depth"]) == []


def test_files_and_random_weights_need_no_download(model, tmp_path):
    for source in ("scratch", str(tmp_path / "x.pth"), f"file://{tmp_path}/x-0123456789.pth"):
        assert list_downloads(model, source) == []
        assert list_downloads(model, source, str(tmp_path)) == []
