"""Image store of a packing: each distinct image is decoded, resized and encoded once.

The store is a folder of files with many encoded images each, and a JSON file with the contents of
each. Both are complete or absent, so a packing that was stopped resumes with the images it finds.
"""

import hashlib
import json
import logging
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from md2dist.data.images import decode_frame, encode_frame, resize_frame
from md2dist.data.inspection.sample_check import check_sizes
from md2dist.data.packing.plan import refuse_sample
from md2dist.data.packing.source import SourceFiles
from md2dist.data.packing.source_files import Fingerprint, is_unchanged, read_source
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError, ShardError
from md2dist.process_map import map_in_processes
from md2dist.storage.atomic import atomic_open, atomic_write
from md2dist.storage.typed_json import Count, FileName, read_json

logger = logging.getLogger(__name__)

_IMAGES_PER_FILE = 64  # about two seconds of work, lost if the process is stopped


class StoredImage(NamedTuple):
    """An encoded image: its place in the store, and its source."""

    file: FileName  # in the folder of the store
    start: Count  # first byte
    stop: Count  # byte after the last one
    native_height: Count
    native_width: Count
    source: Fingerprint  # the camera's file
    crc32: Count | None = None  # of its bytes; earlier versions stored none


class ImageStore(NamedTuple):
    """Encoded images by their names in the source."""

    images: dict[str, StoredImage]
    broken: dict[str, str]  # reasons for the images that could not be encoded
    num_encoded: int  # images that were not in the store before
    seconds: float  # time of encoding them, summed over the processes


class _Job(NamedTuple):
    files: SourceFiles
    names: list[str]
    recipe: Recipe
    folder: Path
    skip_bad: bool


def store_images(
    files: SourceFiles,
    names: Iterable[str],
    recipe: Recipe,
    folder: Path,
    *,
    num_processes: int = 1,
    skip_bad: bool = False,
    show_progress: bool = False,
) -> ImageStore:
    """Encodes the images that are missing in a store.

    Args:
        files: the source files.
        names: names of the images.
        recipe: their size and encoding.
        folder: folder of the store; created if missing.
        num_processes: number of processes that encode.
        skip_bad: record damaged images instead of raising at the first.
        show_progress: show a progress bar.

    Raises:
        KittiDataError: if an image is damaged.
        OSError: if the store cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = _read_store(folder, files)
    images = {name: known[name] for name in names if name in known}
    missing = sorted(set(names) - set(known))
    jobs = [
        _Job(files, missing[start : start + _IMAGES_PER_FILE], recipe, folder, skip_bad)
        for start in range(0, len(missing), _IMAGES_PER_FILE)
    ]
    broken: dict[str, str] = {}
    seconds = 0.0
    with tqdm(total=len(missing), unit="image", disable=not show_progress) as bar:
        for part in map_in_processes(_encode_images, jobs, num_processes):
            images |= part.images
            broken |= part.broken
            seconds += part.seconds
            bar.update(len(part.images) + len(part.broken))
    return ImageStore(images, broken, len(missing) - len(broken), seconds)


def _read_store(folder: Path, files: SourceFiles) -> dict[str, StoredImage]:
    """Finds the stored images whose sources are unchanged."""
    found: dict[str, StoredImage] = {}
    for path in folder.glob("*.json"):
        if not path.with_suffix("").is_file():
            continue
        remedy = "its images are encoded again"
        try:
            images = read_json(path, dict[str, StoredImage], ShardError, remedy)
        except (OSError, ShardError) as error:
            logger.warning("%s", error)
            continue
        size = path.with_suffix("").stat().st_size
        for name, image in images.items():
            is_whole = image.file == path.stem and image.start <= image.stop <= size
            if is_whole and is_unchanged(files, name, image.source):
                found[name] = image
    return found


def _encode_images(job: _Job) -> ImageStore:
    """Writes one file of the store."""
    began = time.monotonic()
    # Named after its contents, since several tasks may work on one store.
    file = hashlib.sha256("\n".join(job.names).encode()).hexdigest()[:16]
    images: dict[str, StoredImage] = {}
    broken: dict[str, str] = {}
    (job.folder / f"{file}.json").unlink(missing_ok=True)
    with atomic_open(job.folder / file) as stream:
        for name in job.names:
            start = stream.tell()
            try:
                content, source = read_source(job.files, name)
                frame = decode_frame(content, name)
                _check_size(frame, name, job.recipe)
            except KittiDataError as error:
                if not job.skip_bad:
                    raise refuse_sample(job.files, error) from None
                broken[name] = str(error)
                continue
            encoded = _encode(frame, job.recipe)
            stream.write(encoded)
            native_size, crc32 = (frame.height, frame.width), zlib.crc32(encoded)
            images[name] = StoredImage(file, start, stream.tell(), *native_size, source, crc32)
    atomic_write(job.folder / f"{file}.json", json.dumps(images).encode())
    return ImageStore(images, broken, len(images), time.monotonic() - began)


def _check_size(frame: Image.Image, name: str, recipe: Recipe) -> None:
    native = frame.height, frame.width
    for fault in check_sizes(native, (recipe.height or native[0], recipe.width or native[1])):
        raise KittiDataError(f"image {name} {fault}")


def _encode(frame: Image.Image, recipe: Recipe) -> bytes:
    if recipe.height and recipe.width:
        frame = resize_frame(frame, recipe.height, recipe.width)
    return encode_frame(frame, recipe.image_format, recipe.image_quality)
