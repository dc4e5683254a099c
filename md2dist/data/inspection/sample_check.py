"""Checks of one sample: members, metadata, geometry, contents."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from md2dist.data.inspection.descriptions import split_line_of
from md2dist.data.intrinsics import check_baseline, check_intrinsics
from md2dist.data.kitti.layout import OTHER_SIDE
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.shards.image import decode_image
from md2dist.data.shards.manifest import FORMAT_VERSION
from md2dist.data.shards.recipe import Recipe, view_names
from md2dist.data.shards.sample_info import parse_info
from md2dist.data.shards.sparse_depth import decode_sparse_depth
from md2dist.errors import ShardError

_SMALLEST_IMAGE = 16  # rows and columns of a camera's images
_SQUEEZE = 4.0  # of one direction against the other; 2.5 if 4:3 becomes 640x192, 5.9 if 9:16 does
_DEPTH = (0.1, 200.0)  # m, of at least one pixel


def expected_members(recipe: Recipe) -> list[str]:
    """Returns the names of the members of every sample of a recipe."""
    views = view_names(recipe.frame_offsets, recipe.use_stereo)
    names = [*(f"{view}.{recipe.image_format}" for view in views), "json"]
    return [*names, recipe.ground_truth_name] if recipe.ground_truth_name else names


def image_of_view(line: SplitLine, view: str) -> SplitLine:
    """Returns the line of the image that a view of a sample shows.

    >>> str(image_of_view(SplitLine("2011_09_26/drive", 7, "l"), "+1"))
    '2011_09_26/drive 8 l'
    """
    if view == "s":
        return line._replace(side=OTHER_SIDE[line.side])
    return line._replace(frame=line.frame + int(view))


def check_sample(
    key: str, members: Mapping[str, bytes | memoryview], recipe: Recipe, *, decode: bool
) -> list[str]:
    """Finds all faults of one sample.

    Args:
        key: key of its members in the tar.
        members: bytes of its members by name.
        recipe: the recipe of the shards.
        decode: also decode images and ground truth, which takes most of the time.

    Returns:
        The faults as text.
    """
    expected = expected_members(recipe)
    faults = [f"lacks {name}" for name in expected if name not in members]
    faults += [f"{name} is not in the recipe" for name in members if name not in expected]
    info = None
    try:
        if "json" in members:
            info = parse_info(members["json"])
            faults += _check_metadata(key, info, recipe)
            faults += _check_geometry(info, recipe)
    except ShardError as error:
        faults.append(f"its {error}")
    if decode:
        faults += _check_contents(members, info, recipe)
    return faults


def check_sizes(native: tuple[int, int], packed: tuple[int, int]) -> Iterator[str]:
    """Finds faults of the size of a camera's images.

    Args:
        native: their height and width in pixels.
        packed: height and width of the packed images in pixels.

    Yields:
        The faults as text, which continues the name of the sample or the image.
    """
    if min(*native, *packed) < 1:
        yield "has an image size that is not positive"
        return
    if min(native) < _SMALLEST_IMAGE:
        yield (
            f"has {_times(native)} pixels in the camera's image, expected >= {_SMALLEST_IMAGE} in "
            "both directions"
        )
    squeeze = packed[0] / native[0] * native[1] / packed[1]
    if not 1 / _SQUEEZE <= squeeze <= _SQUEEZE:
        yield (
            f"has {_times(native)} pixels in the camera's image, which {_times(packed)} squeezes "
            f"by {max(squeeze, 1 / squeeze):.1f} in one direction, expected at most {_SQUEEZE:g}: "
            "pack upright images with --height above --width"
        )


def check_depth(depth: np.ndarray) -> Iterator[str]:
    """Finds faults of a sample's ground truth.

    Args:
        depth: (H, W) in m, 0 where unknown.

    Yields:
        The faults as text, which continues the name of the depth.
    """
    known = depth[depth != 0]
    if not (known.size and np.isfinite(known).all() and (known > 0).all()):
        yield "has no depth, or depths that are not positive and finite"
    elif not ((_DEPTH[0] <= known) & (known <= _DEPTH[1])).any():
        yield (
            f"has depths from {known.min():g} to {known.max():g} m, expected some from "
            f"{_DEPTH[0]:g} to {_DEPTH[1]:g} m"
        )


def _check_metadata(key: str, info: dict[str, Any], recipe: Recipe) -> Iterator[str]:
    if info["format_version"] != FORMAT_VERSION:
        yield f"has format version {info['format_version']}, expected {FORMAT_VERSION}"
    line = split_line_of(info)
    if info["key"] != key or line.key != key:
        yield f"its json describes {line} under the key {info['key']}"
    size = info["height"], info["width"]
    if recipe.height is not None and size != (recipe.height, recipe.width):
        yield f"has size {_times(size)} in its json, the recipe says {recipe.size_name}"
    yield from check_sizes((info["native_height"], info["native_width"]), size)


def _check_geometry(info: dict[str, Any], recipe: Recipe) -> Iterator[str]:
    size = info["height"], info["width"]
    native_size = info["native_height"], info["native_width"]
    yield from (f"K {fault}" for fault in check_intrinsics(info["K"], size, native_size))
    if recipe.use_stereo:  # with one camera, it is 0
        yield from check_baseline(info["baseline"])


def _check_contents(
    members: Mapping[str, bytes | memoryview], info: dict[str, Any] | None, recipe: Recipe
) -> Iterator[str]:
    """Decodes images and ground truth, and compares their sizes with the metadata, if readable."""
    for name, content in members.items():
        try:
            if name.endswith(f".{recipe.image_format}"):
                shape, prefix = decode_image(content).shape[:2], ""
            elif name == recipe.ground_truth_name:
                depth = decode_sparse_depth(content)
                shape, prefix = depth.shape, "native_"
                yield from (f"{name} {fault}" for fault in check_depth(depth))
            else:
                continue
        except ShardError as error:
            yield f"{name} cannot be decoded: {error}"
        else:
            if info and shape != (listed := (info[f"{prefix}height"], info[f"{prefix}width"])):
                yield f"{name} is {_times(shape)}, its json says {_times(listed)}"


def _times(size: tuple[int, ...]) -> str:
    """Formats a size as height x width."""
    return "x".join(map(str, size))
