"""ImageNet weights: how they are adapted, and where they come from."""

import hashlib

import pytest
import torch
from helpers.checkpoints import flip_a_byte
from helpers.file_server import serve_files

from md2dist.config import load_config
from md2dist.errors import WeightsError
from md2dist.model import MonodepthModel
from md2dist.networks.resnet import ResNetEncoder
from md2dist.storage.retries import RetryPolicy
from md2dist.weights import load_imagenet
from md2dist.weights.imagenet import TORCHVISION_SHA256


def make_model(num_layers=18, *overrides: str) -> MonodepthModel:
    settings = ["data.height=64", "data.width=64", f"network.num_layers={num_layers}", *overrides]
    return MonodepthModel.from_config(load_config(overrides=settings))


def make_classifier(num_layers=18, with_counters=True):
    torch.manual_seed(1)
    encoder = ResNetEncoder(num_layers)
    state = {name: tensor + 1 for name, tensor in encoder.state_dict().items()}
    if not with_counters:
        state = {name: state[name] for name in state if not name.endswith("batches_tracked")}
    return state | {
        "fc.weight": torch.ones(1000, encoder.channels[-1]),
        "fc.bias": torch.ones(1000),
    }


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "resnet.pth"
    torch.save(make_classifier(), path)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Torch's folder for downloads, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def server(file, monkeypatch):
    """A web server of two files with the same content."""
    hasty = RetryPolicy(num_tries=3, first_wait=0.001)
    monkeypatch.setattr("md2dist.weights.download.INTERACTIVE", hasty)
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    with serve_files() as server:
        server.files |= {"plain.pth": content, f"resnet18-{digest[:8]}.pth": content}
        yield server


@pytest.fixture
def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("with_counters", [True, False])
def test_both_encoders_get_the_classifiers_weights(tmp_path, with_counters):
    state = make_classifier(with_counters=with_counters)
    torch.save(state, tmp_path / "weights.pth")
    model = make_model()
    decoder = model.depth.heads[0].weight.clone()
    load_imagenet(model, str(tmp_path / "weights.pth"))
    for encoder in (model.encoder, model.pose_encoder):
        for name, tensor in encoder.state_dict().items():
            if name.endswith("num_batches_tracked"):
                assert tensor == 0
            elif name != "conv1.weight" or encoder is model.encoder:
                assert torch.equal(tensor, state[name]), name
    assert torch.equal(model.depth.heads[0].weight, decoder)


def test_two_equal_images_give_the_response_of_one(file):
    model = make_model().double()
    load_imagenet(model, str(file))
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    one = model.encoder.eval()(image)
    two = model.pose_encoder.eval()(torch.cat((image, image), dim=1))
    torch.testing.assert_close(two, one, rtol=1e-10, atol=0)


def test_a_model_without_a_pose_encoder_is_filled_too(file):
    model = make_model(18, "data.frame_offsets=[]", "data.use_stereo=true")
    load_imagenet(model, str(file))
    assert torch.equal(model.encoder.bn1.weight, make_classifier()["bn1.weight"])


def test_a_pinned_url_is_downloaded_once_and_checked(server, digest, cache):
    for _ in range(2):
        model = make_model()
        load_imagenet(model, f"{server.url}/plain.pth#sha256={digest}")
        assert torch.equal(model.encoder.bn1.weight, make_classifier()["bn1.weight"])
    assert server.requests == [("GET", "/plain.pth", None)]
    assert [path.name for path in cache.iterdir()] == [f"plain-{digest}.pth"]


def test_a_server_that_fails_twice_is_retried_and_the_download_resumed(server, digest, cache):
    server.faults += ["503", "cut:1000"]
    load_imagenet(make_model(), f"{server.url}/plain.pth#sha256={digest}")
    assert server.ranges == [None, None, "bytes=1000-"]
    assert [path.name for path in cache.iterdir()] == [f"plain-{digest}.pth"]


def test_a_name_that_ends_with_the_digits_is_a_pin(server, digest, cache):
    load_imagenet(make_model(), f"{server.url}/resnet18-{digest[:8]}.pth")
    assert [path.name for path in cache.iterdir()] == [f"resnet18-{digest[:8]}.pth"]


def test_a_file_url_names_a_local_file_which_is_checked_and_not_copied(file, digest, cache):
    load_imagenet(make_model(), f"{file.as_uri()}#sha256={digest}")
    assert not cache.exists()
    with pytest.raises(WeightsError, match="is not the file that its checksum names"):
        load_imagenet(make_model(), f"{file.as_uri()}#sha256={'0' * 64}")
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        load_imagenet(make_model(), f"{file.as_uri()}x#sha256={digest}")


def test_the_word_imagenet_means_torchvisions_file_of_that_depth(
    server, digest, cache, monkeypatch
):
    monkeypatch.setattr("md2dist.weights.imagenet.TORCHVISION_URL", f"{server.url}/")
    monkeypatch.setitem(TORCHVISION_SHA256, 18, digest)
    load_imagenet(make_model(), "imagenet")
    assert [path for _, path, _ in server.requests] == [f"/resnet18-{digest[:8]}.pth"]
    assert [path.name for path in cache.iterdir()] == [f"resnet18-{digest[:8]}.pth"]


def test_a_download_with_another_checksum_is_not_kept(server, cache):
    with pytest.raises(WeightsError, match=r"not the expected file: its sha256 is .*expected 0000"):
        load_imagenet(make_model(), f"{server.url}/plain.pth#sha256={'0' * 64}")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    "address", ["resnet18-{0}.pth", "resnet18-{0}.pth#sha256={1}", "plain.pth#sha256={1}"]
)
def test_a_downloaded_file_that_has_changed_since_is_refused(server, digest, cache, address):
    pinned = f"{server.url}/{address.format(digest[:8], digest)}"
    load_imagenet(make_model(), pinned)
    [path] = cache.iterdir()
    torch.save(make_classifier() | {"bn1.weight": torch.zeros(64)}, path)
    with pytest.raises(WeightsError, match=rf"{path.name} is not the file .*, delete it"):
        load_imagenet(make_model(), pinned)
    path.unlink()
    load_imagenet(make_model(), pinned)


def test_a_url_without_a_checksum_is_refused_before_any_request(server, cache):
    for fragment in ("", "#sha256=12ab", "#md5=0"):
        with pytest.raises(WeightsError, match="no checksum; append #sha256="):
            load_imagenet(make_model(), f"{server.url}/plain.pth{fragment}")
    assert server.requests == []


@pytest.mark.parametrize("url", ["{}/gone-01234567.pth", "http://127.0.0.1:1/r-01234567.pth"])
def test_an_address_out_of_reach_is_named_with_the_remedy(server, cache, url):
    url = url.format(server.url)
    reason = "(the server responds 404|cannot be downloaded, tried 3 times)"
    with pytest.raises(WeightsError, match=rf"{url}.*{reason}.*network\.weights=scratch"):
        load_imagenet(make_model(), url)
    assert not list(cache.glob("*.pth"))


def test_a_file_of_another_depth_or_another_network_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(make_classifier(50), path)
    with pytest.raises(WeightsError, match=r"is a ResNet-50; .*set network\.num_layers=50"):
        load_imagenet(make_model(), str(path))
    torch.save({"epoch": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match=r"1 unexpected \(epoch\)"):
        load_imagenet(make_model(), str(path))


def test_a_file_in_which_one_bit_has_changed_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(make_classifier(), path)
    flip_a_byte(path, 1_000_000)
    with pytest.raises(WeightsError, match=r"weights\.pth is damaged.*Bad CRC-32"):
        load_imagenet(make_model(), str(path))


def test_a_misspelt_word_is_taken_for_a_missing_file():
    with pytest.raises(WeightsError, match=r"network\.weights=imagnet; expected scratch, imagenet"):
        load_imagenet(make_model(), "imagnet")
