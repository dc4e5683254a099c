"""Splits by name: a file, a published list, or a rule."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from md2dist.data.kitti.published_splits import PUBLISHED_SPLITS, fetch_split
from md2dist.data.kitti.split_rules import Part, select_samples
from md2dist.data.kitti.splits import SkippedLine, SplitLine, read_split
from md2dist.data.kitti.tree import SourceTree, naming_the_roots
from md2dist.errors import SplitError

_RULES: dict[str, Part] = {"rule/train": "train", "rule/val": "val"}


class Split(NamedTuple):
    """Samples and their origin."""

    lines: list[SplitLine]
    origin: str  # for display
    skipped: Sequence[SkippedLine] = ()  # drives whose speeds the rule could not read


def load_split(
    name: str,
    tree: SourceTree,
    *,
    frame_offsets: Sequence[int] = (),
    use_stereo: bool = False,
    splits_dir: Path | None = None,
    skip_bad: bool = False,
) -> Split:
    """Lists the samples of a split.

    Args:
        name: a split file, or a name such as ``eigen_zhou/train`` or ``rule/train``.
        tree: tree of KITTI raw, from which a rule selects.
        frame_offsets: neighbours that each sample of a rule's split needs.
        use_stereo: whether each sample of a rule's split needs the other camera's image.
        splits_dir: folder of lists ``NAME/PART_files.txt``, used instead of a download.
        skip_bad: whether a rule skips drives with missing or damaged files.

    Raises:
        SplitError: if the split is unknown, cannot be downloaded, or is malformed or empty.
        KittiDataError: if a rule reads a missing or damaged file.
    """
    if name in _RULES and not _is_file(name):
        with naming_the_roots(tree):
            selected = select_samples(
                tree, _RULES[name], frame_offsets, use_stereo, skip_bad=skip_bad
            )
        return Split(selected.lines, f"{name}: {selected}", selected.skipped)
    return _list_split(name, find_split(name, splits_dir))


def load_file(name: str) -> Split:
    """Lists the samples of a split file.

    Raises:
        SplitError: if it is missing, malformed or empty.
    """
    if not _is_file(name):
        raise SplitError(
            f"no split file {name}; of --frames expected a file of lines SEQUENCE FRAME SIDE, or "
            "all; the published splits and rules are for KITTI"
        )
    return _list_split(name, Path(name))


def _list_split(name: str, path: Path) -> Split:
    lines = read_split(path)
    return Split(lines, f"{name_split(name)}: {len(lines)} samples, listed in {path}")


def find_split(name: str | Path, splits_dir: str | Path | None = None) -> Path:
    """Finds a split file by its path, by its name in a folder, or among the published lists.

    Args:
        name: a split file, or ``SPLIT/PART``, e.g. ``eigen_zhou/train``.
        splits_dir: folder of named splits; None: the published lists, which are downloaded once.

    Raises:
        SplitError: if the split is unknown or cannot be downloaded.
    """
    if _is_file(name):
        return Path(name)
    published = PUBLISHED_SPLITS.get(str(name))
    if splits_dir is None and published:
        return fetch_split(str(name))
    if splits_dir is None:
        known, origin = [*PUBLISHED_SPLITS, *_RULES, "all"], "known (others need --splits-dir)"
    else:
        path = Path(splits_dir) / (published.path if published else f"{name}_files.txt")
        if _is_file(path):
            return path
        parts = sorted(Path(splits_dir).glob("*/*_files.txt"))
        known = [f"{part.parent.name}/{part.stem.removesuffix('_files')}" for part in parts]
        origin = f"in {splits_dir}"
    raise SplitError(
        f"no split file {name}, and no split of that name {origin}; expected one of: "
        + (", ".join(known) or "none")
    )


def name_split(name: str) -> str:
    """Returns the name of a split in the manifest; of a file, its name without the folders."""
    return Path(name).name if _is_file(name) else name


def _is_file(path: str | Path) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # the name is too long for a file
        return False
