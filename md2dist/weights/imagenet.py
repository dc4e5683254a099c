"""ImageNet weights for the encoders: from a file, from a pinned URL, or torchvision's own."""

import re
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import hub

from md2dist.errors import WeightsError
from md2dist.model import MonodepthModel
from md2dist.networks.resnet import ResNetEncoder
from md2dist.storage.hashing import hash_file
from md2dist.weights.files import check_num_layers, check_state_dict, read_weights

TORCHVISION_SHA256 = {  # of IMAGENET1K_V1; the files' names end with the first 8 digits
    18: "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    34: "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    50: "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    101: "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    152: "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
}
TORCHVISION_URL = "https://download.pytorch.org/models/"


def load_imagenet(model: MonodepthModel, source: str) -> None:
    """Fills both encoders with the weights of an ImageNet classifier.

    The first convolution of the pose encoder is the classifier's, repeated for each image and
    divided by their number: two equal images give the response of one.

    Args:
        model: the model whose encoders are filled.
        source: ``imagenet`` (torchvision's file for the model's depth), a file with torchvision's
            names, or a URL of one whose sha256 is known: ``URL#sha256=HEX`` or ``NAME-HEX.pth``.
            Downloads are kept in `torch.hub`'s folder, and checked whenever they are used.

    Raises:
        WeightsError: if the file cannot be had, is damaged, or belongs to another network.
    """
    if source == "imagenet":
        sha256 = TORCHVISION_SHA256[model.num_layers]
        name = f"resnet{model.num_layers}-{sha256[:8]}.pth"
        source = f"{TORCHVISION_URL}{name}#sha256={sha256}"
    path = _fetch(source) if "://" in source else Path(source).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"no file network.weights={source}; expected scratch, imagenet, or a file or URL"
        )
    state = {
        name: tensor
        for name, tensor in read_weights(path).items()
        if name not in ("fc.weight", "fc.bias") and not name.endswith("num_batches_tracked")
    }
    check_num_layers(state, model.num_layers, path)
    for encoder in model.encoders():
        _fill_encoder(encoder, state, path)


def _fill_encoder(encoder: ResNetEncoder, state: dict[str, torch.Tensor], path: Path) -> None:
    """Loads a classifier's weights into an encoder; the counters of its batch norms stay."""
    own = encoder.state_dict()
    expected = {name: own[name] for name in own if not name.endswith("num_batches_tracked")}
    expected["conv1.weight"] = expected["conv1.weight"][:, :3]
    check_state_dict(state, expected, path)
    num_images = encoder.num_images
    conv1 = state["conv1.weight"].repeat(1, num_images, 1, 1) / num_images
    encoder.load_state_dict(own | state | {"conv1.weight": conv1})


def _fetch(url: str) -> Path:
    """Downloads a file once and returns its place; an unverified file never gets its final name.

    Its name there ends with digits of its sha256, so it may share the folder with its namesakes.
    """
    address, _, fragment = url.partition("#")
    name = Path(urlparse(address).path)
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
    if target.is_file():
        _check_again(target, digest[1])
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(
            address, str(target), hash_prefix=digest[1], progress=sys.stderr.isatty()
        )
    except RuntimeError as error:
        raise WeightsError(
            f"{address} is not the file that its checksum names: {error}; it was truncated or has "
            "changed: try again, or mend the sha256"
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        raise WeightsError(
            f"{address} cannot be downloaded: {error}; set network.weights=scratch, or to the path "
            "of a file that you copied here"
        ) from None
    return target


def _check_again(path: Path, digest: str) -> None:
    """Raises a WeightsError if a file that was there before has not the sha256 pinned now."""
    try:
        found = hash_file(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}; check its rights") from None
    if not found.startswith(digest):
        raise WeightsError(
            f"{path} is not the file that its checksum names: its sha256 is {found}, expected "
            f"{digest}; delete it, and it will be downloaded again"
        )
