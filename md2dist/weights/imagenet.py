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
from md2dist.weights.files import check_fit, check_num_layers, read_weights

TORCHVISION_FILES = {  # IMAGENET1K_V1; the names end with the first digits of the sha256
    18: "resnet18-f37072fd.pth",
    34: "resnet34-b627a593.pth",
    50: "resnet50-0676ba61.pth",
    101: "resnet101-63fe2227.pth",
    152: "resnet152-394f9c45.pth",
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
            Downloads are kept in `torch.hub`'s folder.

    Raises:
        WeightsError: if the file cannot be had, is damaged, or belongs to another network.
    """
    if source == "imagenet":
        source = TORCHVISION_URL + TORCHVISION_FILES[model.num_layers]
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
    check_fit(state, expected, path)
    num_images = encoder.num_images
    conv1 = state["conv1.weight"].repeat(1, num_images, 1, 1) / num_images
    encoder.load_state_dict(own | state | {"conv1.weight": conv1})


def _fetch(url: str) -> Path:
    """Downloads a file once and returns its place; an unverified file never gets its final name."""
    address, _, fragment = url.partition("#")
    name = Path(urlparse(address).path)
    pin = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment.lower())
    digest = pin or (None if fragment else re.search(r"-([0-9a-f]{8,64})$", name.stem))
    if digest is None:
        raise WeightsError(
            f"network.weights={url} has no checksum; append #sha256= and the 64 digits of the "
            "file's sha256"
        )
    folder = Path(hub.get_dir()) / "checkpoints"
    target = folder / (f"{name.stem}-{digest[1]}{name.suffix}" if pin else name.name)
    if target.exists():
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
