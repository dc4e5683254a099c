"""Layout of the published files: their names, and the names of weights in them."""

from collections.abc import Collection

from torch import nn

POSE_NETWORKS = ("pose_encoder", "pose")  # absent in models trained on stereo alone
NETWORKS = ("encoder", "depth", *POSE_NETWORKS)
SETTINGS = ("height", "width", "use_stereo")  # plain values, in encoder.pth only
DEPTH_RANGE = ("min_depth", "max_depth")  # plain values beside them, in our own files only
ENCODER = "network_encoder"  # likewise: the setting network.encoder
CLASSIFIER = ("encoder.fc.weight", "encoder.fc.bias")  # in both encoders' files, unused

_PREFIXES = {  # ours -> published, in the order of the files
    "encoder": {"": "encoder."},
    "depth": {
        f"{stage}.{level}.": f"decoder.{2 * level + position}.conv.conv."
        for level in range(5)
        for position, stage in enumerate(("before", "after"))
    }
    | {f"heads.{scale}.": f"decoder.{10 + scale}.conv." for scale in range(4)},
    "pose_encoder": {"": "encoder."},
    "pose": {"squeeze.": "net.0.", "conv1.": "net.1.", "conv2.": "net.2.", "head.": "net.3."},
}


def published_names(network: str, names: Collection[str]) -> dict[str, str]:
    """Maps a network's own names to the published ones, in the order of the published file.

    Args:
        network: ``encoder``, ``depth``, ``pose_encoder`` or ``pose``.
        names: the keys of the network's state dict.
    """
    return {
        name: published + name.removeprefix(ours)
        for ours, published in _PREFIXES[network].items()
        for name in names
        if name.startswith(ours)
    }


def find_network(name: str) -> tuple[str, str] | None:
    """Finds the network of a weight in a file that holds all networks.

    Args:
        name: our name, such as ``depth.heads.0.bias``; or the published one, either after that of
            its file (``depth.decoder.10.conv.bias``) or alone (``decoder.10.conv.bias``).

    Returns:
        The network and the published name in its file; None if the name belongs to no network.
    """
    for network in NETWORKS:
        own = name.removeprefix(f"{network}.")
        if own != name:
            is_published = own.startswith(tuple(_PREFIXES[network].values()))
            published = own if is_published else published_names(network, [own]).get(own, own)
            return network, published
    alone = {"decoder.": "depth", "net.": "pose"}
    return next(((alone[start], name) for start in alone if name.startswith(start)), None)


def networks_of(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the networks of a model that have a published file, by name."""
    children = dict(model.named_children())
    has_pose = "pose_encoder" in children  # the other pose networks have no published file
    names = [name for name in NETWORKS if has_pose or name not in POSE_NETWORKS]
    return {name: children[name] for name in names}
