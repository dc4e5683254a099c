"""Checks between samples: duplicates, inconsistent images, frames shared with evaluation."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from md2dist.data.inspection.sample_check import image_of_view
from md2dist.data.inspection.shard_check import Checksum, Fault, ShardReport
from md2dist.data.kitti.drives import name_in_raw
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.shards.manifest import Manifest
from md2dist.data.shards.recipe import Recipe, view_names
from md2dist.storage.open_store import is_url

FrameId = tuple[str, int]  # drive of KITTI raw and frame, of either camera


def find_unlisted_shards(folder: str | Path, manifest: Manifest) -> Iterator[Fault]:
    """Finds shards in a local folder that its manifest does not list; a store lists no files."""
    if is_url(folder):
        return
    known = {entry.name for entry in manifest.shards}
    for path in sorted(Path(folder).glob("*.tar")):
        if path.name not in known:
            yield Fault(path.name, "", "is not in index.json; is it left from another packing?")


def find_duplicates(reports: Iterable[ShardReport]) -> Iterator[Fault]:
    """Finds samples that are in several shards."""
    homes: dict[str, str] = {}
    for report in reports:
        for sample in report.samples:
            home = homes.setdefault(sample.key, report.name)
            if home != report.name:
                yield Fault(report.name, sample.key, f"is also in {home}")


def find_inconsistent_images(reports: Iterable[ShardReport]) -> Iterator[Fault]:
    """Finds images that differ between the samples that show them.

    The same frame is the target of one sample, the neighbour of the next and the other camera of a
    third. It is encoded in the same way each time, so its bytes are the same, unless one of them is
    damaged or was taken from a wrong frame. The majority is taken as right.
    """
    shown: dict[SplitLine, list[tuple[str, str, Checksum]]] = defaultdict(list)
    for report in reports:
        for sample in report.samples:
            for image, checksum in sample.images.items():
                shown[image].append((report.name, sample.key, checksum))
    for image, places in shown.items():
        majority = Counter(checksum for *_, checksum in places).most_common(1)[0][0]
        witness = next(key for _, key, checksum in places if checksum == majority)
        for shard, key, checksum in places:
            if checksum != majority:
                yield Fault(shard, key, f"shows another image of {image} than {witness}")


def shown_frames(lines: Iterable[SplitLine], recipe: Recipe) -> set[FrameId]:
    """Returns the frames that samples show in any of their views."""
    # The stereo view shows the target's frame.
    views = view_names(recipe.frame_offsets, use_stereo=False)
    images = (image_of_view(line, view) for line in lines for view in views)
    return {name_in_raw(image.drive, image.frame) for image in images}


def find_leaks(train: set[FrameId], evaluation: set[FrameId]) -> Iterator[Fault]:
    """Finds frames that training and evaluation share, by drive."""
    leaks: dict[str, list[int]] = defaultdict(list)
    for drive, frame in sorted(train & evaluation):
        leaks[drive].append(frame)
    for drive, frames in leaks.items():
        reason = f"the evaluation shards show {len(frames)} of its frames: {format_ranges(frames)}"
        yield Fault(drive, "", reason)


def frame_gaps(lines: Iterable[SplitLine]) -> dict[str, list[int]]:
    """Measures the gaps between the target frames of each drive, both cameras taken together.

    Returns:
        For every drive, sorted, the frames missing in each gap between its first and last one.
    """
    frames: dict[str, set[int]] = defaultdict(set)
    for line in lines:
        frames[line.drive].add(line.frame)
    return {
        drive: [
            after - before - 1 for before, after in pairwise(sorted(found)) if after > before + 1
        ]
        for drive, found in sorted(frames.items())
    }


def format_ranges(numbers: Sequence[int]) -> str:
    """Formats ascending numbers as ranges.

    >>> format_ranges([1, 2, 3, 7, 9, 10])
    '1-3 7 9-10'
    """
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return " ".join("-".join(map(str, ends)) for ends in ranges)
