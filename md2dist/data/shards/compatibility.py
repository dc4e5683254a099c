"""Whether shards hold what a run asks for."""

from collections.abc import Sequence
from pathlib import Path

from md2dist.data.shards.manifest import Manifest
from md2dist.data.shards.recipe import PACK_COMMAND
from md2dist.errors import ShardError


def check_recipe(
    manifest: Manifest,
    folder: str | Path,
    *,
    frame_offsets: Sequence[int],
    use_stereo: bool,
    height: int | None = None,
    width: int | None = None,
) -> None:
    """Checks that shards hold what a run asks for; more views than asked for are welcome.

    Args:
        manifest: of the shards.
        folder: where they lie, for messages.
        frame_offsets: the temporal sources that are needed.
        use_stereo: whether the stereo view is needed.
        height: rows that the images must have; None takes whatever is packed, if it is one size.
        width: columns, likewise.

    Raises:
        ShardError: if they are of another size or of many, or lack an offset or the stereo view.
    """
    recipe = manifest.recipe
    if recipe.height is None:
        raise ShardError(
            f"{folder} is packed at native size, but images of one size are asked for: "
            f"pack again with --height {height or 192} --width {width or 640}, "
            "without --size native"
        )
    if height is not None and (recipe.height, recipe.width) != (height, width):
        raise ShardError(
            f"{folder} is packed at {recipe.size_name}, asked for is {height}x{width}: "
            f"set data.height={recipe.height} data.width={recipe.width}, "
            f"or pack again with --height {height} --width {width}"
        )
    packed, asked = list(recipe.frame_offsets), list(frame_offsets)
    lacks_offsets = not set(asked) <= set(packed)
    if not lacks_offsets and recipe.use_stereo >= use_stereo:
        return
    wanted = sorted({*packed, *asked})
    stereo_option = "--stereo" if use_stereo or recipe.use_stereo else "--no-stereo"
    views_options = " ".join(["--frame-offsets", *map(str, wanted), stereo_option])
    if not packed and not recipe.use_stereo:
        raise ShardError(
            f"{folder} holds targets without sources: it is packed for evaluation; for training "
            f"pack with `{PACK_COMMAND} --height {recipe.height} --width {recipe.width} "
            f"{views_options}`"
        )
    offsets, stereo = (packed if lacks_offsets else asked), use_stereo and recipe.use_stereo
    if not offsets and not stereo:  # training needs a source
        offsets, stereo = packed, recipe.use_stereo
    settings = [f"data.frame_offsets=[{','.join(map(str, offsets))}]"] * (offsets != asked)
    settings += [f"data.use_stereo={str(stereo).lower()}"] * (stereo != use_stereo)
    raise ShardError(
        f"{folder} is packed with frame offsets {_name_sources(packed, recipe.use_stereo)}, "
        f"asked for are {_name_sources(asked, use_stereo)}: set {' '.join(settings)}, "
        f"or pack again with {views_options}"
    )


def _name_sources(frame_offsets: list[int], use_stereo: bool) -> str:
    return f"{frame_offsets} with{'' if use_stereo else 'out'} the stereo view"
