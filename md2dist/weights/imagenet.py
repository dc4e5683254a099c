"""ImageNet weights for the encoders: from a file, from a pinned URL, or torchvision's own."""

import re
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch
from torch import hub

from md2dist.errors import DownloadError, WeightsError
from md2dist.model import MonodepthModel
from md2dist.networks.resnet import ResNetEncoder
from md2dist.networks.timm_encoder import TimmEncoder
from md2dist.networks.timm_models import TIMM, pretrained_weights
from md2dist.storage.hashing import hash_file
from md2dist.weights.download import download_visibly
from md2dist.weights.files import read_weights
from md2dist.weights.fit import check_architecture, check_state_dict, is_number, tidy

TORCHVISION_SHA256 = {  # of IMAGENET1K_V1; the files' names end with the first 8 digits
    18: "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    34: "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    50: "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    101: "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    152: "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
}
_MAX_BYTES = 1 << 30  # of a weight file; ResNet-152 has 2**28
TORCHVISION_URL = "https://download.pytorch.org/models/"


def load_imagenet(model: MonodepthModel, source: str, exclude: Collection[str] = ()) -> None:
    """Fills the encoders with the weights of an ImageNet classifier, a model of timm with timm's.

    The first convolution of the pose encoder is the classifier's, repeated for each image and
    divided by their number: two equal images give the response of one.

    Args:
        model: the model whose encoders are filled.
        source: ``imagenet`` (torchvision's file for the depth of each), a file with torchvision's
            names, or a URL of one whose sha256 is known: ``URL#sha256=HEX`` or ``NAME-HEX.pth``.
            Downloads are kept in `torch.hub`'s folder, and checked whenever they are used.
        exclude: names of encoders that are left alone.

    Raises:
        WeightsError: if the file is missing, damaged, or belongs to another network.
    """
    for name, network in model.named_children():
        if isinstance(network, ResNetEncoder) and name not in exclude:
            _load_encoder(network, source)
        elif isinstance(network, TimmEncoder) and name not in exclude:
            model_name = network.name.removeprefix(TIMM)
            weights = pretrained_weights(model_name, model.height, model.width)
            network.backbone.load_state_dict(weights)


def list_missing(model: MonodepthModel, source: str, exclude: Collection[str] = ()) -> list[str]:
    """Lists the addresses from which `load_imagenet` would download files.

    Raises:
        WeightsError: if an address has no checksum.
    """
    encoders = [
        network
        for name, network in model.named_children()
        if isinstance(network, ResNetEncoder) and name not in exclude
    ]
    sources = {_expand(source, encoder) for encoder in encoders}
    remote = [_pin(url) for url in sorted(sources) if "://" in url]
    return [
        file.address
        for file in remote
        if not file.path.is_file() and urlsplit(file.address).scheme != "file"
    ]


def _expand(source: str, encoder: ResNetEncoder) -> str:
    """Returns the address of torchvision's file for ``imagenet``; other sources as they are."""
    if source != "imagenet":
        return source
    sha256 = TORCHVISION_SHA256[encoder.num_layers]
    name = f"resnet{encoder.num_layers}-{sha256[:8]}.pth"
    return f"{TORCHVISION_URL}{name}#sha256={sha256}"


def _load_encoder(encoder: ResNetEncoder, source: str) -> None:
    source = _expand(source, encoder)
    path = _fetch(source) if "://" in source else Path(source).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"no file network.weights={source}; expected scratch, imagenet, or a file or URL"
        )
    state = {
        name: tensor
        for name, tensor in tidy(read_weights(path), path).items()
        if name not in ("fc.weight", "fc.bias")
        and not name.endswith("num_batches_tracked")
        and not is_number(tensor)
    }
    check_architecture(state, encoder, path)
    _fill_encoder(encoder, state, path)


def _fill_encoder(encoder: ResNetEncoder, state: dict[str, torch.Tensor], path: Path) -> None:
    """Loads a classifier's weights, conv1 (64, 3, 7, 7); the counters of batch norm stay."""
    own = encoder.state_dict()
    expected = {name: own[name] for name in own if not name.endswith("num_batches_tracked")}
    expected["conv1.weight"] = expected["conv1.weight"][:, :3]
    check_state_dict(state, expected, path)
    num_images = encoder.num_images
    conv1 = state["conv1.weight"].repeat(1, num_images, 1, 1) / num_images
    encoder.load_state_dict(own | state | {"conv1.weight": conv1})


class _PinnedFile(NamedTuple):
    """A file with a checksum."""

    address: str
    digest: str  # sha256, or its first digits
    path: Path  # on this machine


def _pin(url: str) -> _PinnedFile:
    """Returns the file that a URL names, whether or not it is on this machine.

    Its name in the cache ends with digits of its sha256, so files of the same name do not collide.
    """
    address, _, fragment = url.partition("#")
    parts = urlsplit(address)
    name = Path(parts.path)
    pin = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment.lower())
    named = re.search(r"-([0-9a-f]{8,64})$", name.stem)
    digest = pin or (None if fragment else named)
    if digest is None:
        raise WeightsError(
            f"network.weights={url} has no checksum; append #sha256= and the 64 digits of the "
            "file's sha256"
        )
    folder = Path(hub.get_dir()) / "checkpoints"
    is_named = named is not None and digest[1].startswith(named[1])
    target = folder / (name.name if is_named else f"{name.stem}-{digest[1]}{name.suffix}")
    if parts.scheme == "file":
        target = Path(url2pathname(parts.path))
    return _PinnedFile(address, digest[1], target)


def _fetch(url: str) -> Path:
    """Returns the local path of a file, downloaded on the first call and checked on each."""
    address, digest, target = _pin(url)
    if target.is_file() or urlsplit(address).scheme == "file":
        _check_local(target, digest)
        return target
    check = partial(_check_digest, expected=digest)
    try:
        download_visibly(address, target, check, max_bytes=_MAX_BYTES)
    except DownloadError as error:
        raise WeightsError(
            f"{error}; or set network.weights=scratch, or to the path of a file that you copied "
            "to this machine"
        ) from None
    return target


def _check_digest(path: Path, expected: str) -> None:
    """Raises a DownloadError if the sha256 of a file does not begin with the expected digits."""
    if not (found := hash_file(path)).startswith(expected):
        raise DownloadError(f"its sha256 is {found}, expected {expected}")


def _check_local(path: Path, digest: str) -> None:
    """Raises a WeightsError if a file on this machine cannot be read or has another sha256."""
    try:
        _check_digest(path, digest)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror}; check its permissions"
        ) from None
    except DownloadError as error:
        raise WeightsError(
            f"{path} is not the file that its checksum names: {error}; if it was downloaded, "
            "delete it, and it will be downloaded again"
        ) from None
