"""What a folder of shards looks like: one manifest beside plain WebDataset tars.

A sample is a run of tar members that share a key: one image per view (``0.png``, ``-1.png``,
``+1.png``, ``s.png``), ``json`` and, on request, ``velodyne.npz`` or ``annotated.npz``, the ground
truth. The manifest holds the byte offset of every sample, so a reader can fetch any one of them
without walking through the tar.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from md2dist.data.images import ImageFormat
from md2dist.data.shard_entry import ShardEntry
from md2dist.errors import ShardError
from md2dist.storage.atomic import write_whole
from md2dist.storage.open_store import is_url, open_store
from md2dist.storage.retries import QUICK, Patience
from md2dist.storage.store import fetch_bytes

FORMAT_VERSION = 2
MANIFEST_NAME = "index.json"
PACK_COMMAND = "python shard_tools/make_shards.py --kitti-root DIR --split FILE --output DIR"

GroundTruth = Literal["none", "velodyne", "annotated"]
Order = Literal["shuffled", "sequential"]
_BLOCK = 512  # bytes; tar headers and payloads start at multiples of it


@dataclass(frozen=True)
class Recipe:
    """Everything that was asked for when the shards were made."""

    split: str  # name of the list of samples, for people
    height: int | None  # rows of the packed images in pixels; None: each keeps its native size
    width: int | None  # columns
    frame_offsets: tuple[int, ...]  # temporal sources, ascending, without 0
    use_stereo: bool  # whether the other camera's view is packed
    image_format: ImageFormat = "png"
    image_quality: int = 95  # of jpg; the other formats are lossless
    samples_per_shard: int = 256  # the last shard may hold fewer
    seed: int = 0  # of the order
    ground_truth: GroundTruth = "none"
    order: Order = "shuffled"  # over the whole split, before it is cut into shards

    @property
    def size_name(self) -> str:
        """The size of the packed images, for people."""
        return "native size" if self.height is None else f"{self.height}x{self.width}"

    @property
    def truth_name(self) -> str | None:
        """The member that holds the ground truth; None where there is none."""
        return None if self.ground_truth == "none" else f"{self.ground_truth}.npz"


class Section(Protocol):
    """A sample's part of a tar: bytes, or what reads them where it is sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


@dataclass(frozen=True)
class Manifest:
    """The contents of ``index.json``: what the shards hold and how to make them again."""

    recipe: Recipe
    shards: tuple[ShardEntry, ...]
    skipped: tuple[tuple[str, str], ...] = ()  # lines of the split with the reason
    versions: dict[str, str] = field(default_factory=dict)  # libraries that shape the bytes
    source_digest: str = ""  # sha256 over all files that were read
    digest: str = ""  # sha256 of index.json itself; filled when read, never stored

    @cached_property
    def shard_sizes(self) -> list[int]:
        """Samples of each shard."""
        return [shard.count for shard in self.shards]

    @cached_property
    def num_samples(self) -> int:
        """Samples of all shards."""
        return sum(self.shard_sizes)


def read_manifest(folder: str | Path, patience: Patience = QUICK) -> Manifest:
    """Reads the manifest of a folder of shards.

    Args:
        folder: where it lies, or its address.
        patience: with a store that fails or stalls.

    Raises:
        ShardError: if there is none, or `parse_manifest` refuses it.
    """
    if is_url(folder):
        content = fetch_bytes(open_store(folder, patience.timeout), MANIFEST_NAME, patience)
        return parse_manifest(content, f"{folder}/{MANIFEST_NAME}")
    path = Path(folder) / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ShardError(
            f"{path} cannot be read ({error.strerror}); make shards with `{PACK_COMMAND}`"
        ) from None
    return parse_manifest(content, str(path))


def parse_manifest(content: bytes, origin: str) -> Manifest:
    """Parses the bytes of an ``index.json``.

    Args:
        content: the whole file.
        origin: path or URL, for messages.

    Raises:
        ShardError: if the content is damaged or of another format version.
    """
    try:
        stored = json.loads(content)
        version = stored["format_version"]
        if version == FORMAT_VERSION:
            return Manifest(
                recipe=_parse_recipe(stored["recipe"]),
                shards=tuple(ShardEntry.from_json(entry) for entry in stored["shards"]),
                skipped=tuple((line, reason) for line, reason in stored["skipped"]),
                versions=stored["versions"],
                source_digest=stored["source_digest"],
                digest=hashlib.sha256(content).hexdigest(),
            )
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ShardError(
            f"{origin} is damaged ({type(error).__name__}: {error}); "
            f"copy it again, or make the shards again with `{PACK_COMMAND}`"
        ) from None
    raise ShardError(
        f"{origin} has format version {version}; this program reads {FORMAT_VERSION}: "
        "use the md2dist that packed these shards, or pack them again"
    )


def write_manifest(manifest: Manifest, folder: str | Path) -> None:
    """Writes ``index.json`` at once or not at all."""
    content = {
        "format_version": FORMAT_VERSION,
        "recipe": asdict(manifest.recipe),
        "versions": manifest.versions,
        "source_digest": manifest.source_digest,
        "skipped": manifest.skipped,
        "shards": [shard.as_json() for shard in manifest.shards],
    }
    text = json.dumps(content, separators=(",", ":")) + "\n"
    write_whole(Path(folder) / MANIFEST_NAME, text.encode())


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


def view_names(frame_offsets: Sequence[int], use_stereo: bool) -> list[str]:
    """Names of a sample's views: target, sources with ascending offsets, stereo.

    >>> view_names((-1, 1), use_stereo=True)
    ['0', '-1', '+1', 's']
    """
    return ["0", *(f"{offset:+d}" for offset in sorted(frame_offsets)), *(["s"] * use_stereo)]


def sample_members(section: bytes | memoryview) -> dict[str, Any]:
    """Splits a sample's tar section into its members without copying them.

    Args:
        section: the bytes ``[offsets[i], offsets[i + 1])`` of a shard.

    Returns:
        A memoryview per member, called as the part of its name behind the key (``"0.png"``,
        ``"json"``), and the key itself as ``"__key__"``.

    Raises:
        ShardError: if the section is not one whole sample.

    Source: POSIX.1-1988, ustar: name in bytes 0..99, octal size in bytes 124..135.
    """
    view = memoryview(section)
    members: dict[str, Any] = {}
    for key, name, start, stop in _walk_sample(view):
        members["__key__"] = key
        members[name] = view[start:stop]
    return members


def find_member(section: Section, name: str) -> bytes:
    """Finds one member of a sample, and reads nothing else but the headers before it.

    Raises:
        ShardError: if there is none.
    """
    for _, found, start, stop in _walk_sample(section):
        if found == name:
            return bytes(section[start:stop])
    raise ShardError(f"a sample lacks {name}")


def _walk_sample(section: Section) -> Iterator[tuple[str, str, int, int]]:
    """Yields key, name, first byte and end of each member."""
    sample_key, position = None, 0
    while position < len(section):
        header = bytes(section[position : position + _BLOCK])
        key, _, name = header[:100].rstrip(b"\0").decode("ascii", "replace").partition(".")
        start = position + _BLOCK
        try:
            stop = start + int(header[124:136].rstrip(b" \0"), 8)
        except ValueError:
            stop = -1
        if not name or not start <= stop <= len(section) or key != (sample_key or key):
            raise ShardError(f"no sample's tar member at byte {position} of its section")
        yield key, name, start, stop
        sample_key = key
        position = start + -(-(stop - start) // _BLOCK) * _BLOCK


def _name_sources(frame_offsets: list[int], use_stereo: bool) -> str:
    return f"{frame_offsets} with{'' if use_stereo else 'out'} the stereo view"


def _parse_recipe(stored: dict[str, Any]) -> Recipe:
    return Recipe(**{**stored, "frame_offsets": tuple(stored["frame_offsets"])})
