"""Checks that shards provide the views and the image size that a run needs."""

from collections.abc import Sequence
from pathlib import Path

from md2dist.data.shards.manifest import Manifest
from md2dist.data.shards.recipe import PACK_COMMAND
from md2dist.errors import ShardError
from md2dist.storage.addresses import public_address


def check_recipe(
    manifest: Manifest,
    folder: str | Path,
    *,
    frame_offsets: Sequence[int],
    use_stereo: bool,
    height: int | None = None,
    width: int | None = None,
) -> None:
    """Checks that shards provide what a run needs; additional views are allowed.

    Args:
        manifest: manifest of the shards.
        folder: folder of the shards, for messages.
        frame_offsets: temporal sources that the run needs.
        use_stereo: whether the run needs the stereo view.
        height: expected rows of the images; None accepts any size that all samples share.
        width: expected columns, likewise.

    Raises:
        ShardError: if the images have another size or different sizes, or an offset or the stereo
                view is missing.
    """
    settings = "set data.height={height} data.width={width}, or "
    check_size(manifest, folder, height, width, settings)
    recipe, folder = manifest.recipe, public_address(str(folder))
    packed, requested = list(recipe.frame_offsets), list(frame_offsets)
    lacks_offsets = not set(requested) <= set(packed)
    if not lacks_offsets and recipe.use_stereo >= use_stereo:
        return
    wanted = sorted({*packed, *requested})
    stereo_option = "--stereo" if use_stereo or recipe.use_stereo else "--no-stereo"
    views_options = " ".join(["--frame-offsets", *map(str, wanted), stereo_option])
    if not packed and not recipe.use_stereo:
        raise ShardError(
            f"{folder} holds targets without sources: it is packed for evaluation; for training, "
            f"pack with `{PACK_COMMAND} --height {recipe.height} --width {recipe.width} "
            f"{views_options}`"
        )
    offsets, stereo = (packed if lacks_offsets else requested), use_stereo and recipe.use_stereo
    if not offsets and not stereo:  # training needs a source
        offsets, stereo = packed, recipe.use_stereo
    settings = [f"data.frame_offsets=[{','.join(map(str, offsets))}]"] * (offsets != requested)
    settings += [f"data.use_stereo={str(stereo).lower()}"] * (stereo != use_stereo)
    raise ShardError(
        f"{folder} is packed with frame offsets {_name_sources(packed, recipe.use_stereo)}, "
        f"but the run needs {_name_sources(requested, use_stereo)}: set {' '.join(settings)}, "
        f"or pack again with {views_options}"
    )


def check_size(
    manifest: Manifest,
    folder: str | Path,
    height: int | None,
    width: int | None,
    other_remedy: str = "",
) -> None:
    """Checks that shards hold images of one size.

    Args:
        manifest: manifest of the shards.
        folder: folder of the shards, for messages.
        height: expected rows; None accepts any size that all samples share.
        width: expected columns, likewise.
        other_remedy: what helps besides packing again, with {height} and {width} of the shards.

    Raises:
        ShardError: if the images have another size or different sizes.
    """
    recipe, folder = manifest.recipe, public_address(str(folder))
    if recipe.height is None:
        raise ShardError(
            f"{folder} is packed at native size, but images of one size are needed: "
            f"pack again with --height {height or 192} --width {width or 640}, "
            "without --size native"
        )
    if height is not None and (recipe.height, recipe.width) != (height, width):
        remedy = other_remedy.format(height=recipe.height, width=recipe.width)
        raise ShardError(
            f"{folder} is packed at {recipe.size_name}, but {height}x{width} is needed: "
            f"{remedy}pack again with --height {height} --width {width}"
        )


def _name_sources(frame_offsets: list[int], use_stereo: bool) -> str:
    return f"{frame_offsets} with{'' if use_stereo else 'out'} the stereo view"
