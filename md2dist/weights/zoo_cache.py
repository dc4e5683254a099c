"""Published models on this machine: downloaded, extracted safely, and checked at each use."""

import hashlib
import json
import logging
import re
import shutil
import tempfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from md2dist.errors import DownloadError, WeightsError
from md2dist.storage.atomic import publish
from md2dist.storage.cache_folder import user_cache_folder
from md2dist.storage.hashing import hash_file
from md2dist.storage.locks import lock
from md2dist.storage.typed_json import Digest, FileName, read_json
from md2dist.weights.download import download_visibly
from md2dist.weights.layout import NETWORKS
from md2dist.weights.zoo import (
    LICENCE,
    MODELS,
    PublishedModel,
    address_of,
    find_published,
    find_similar,
)

logger = logging.getLogger(__name__)

_RECORD = "source.json"
_MAX_BYTES = 1 << 30  # of an archive, and of a file in it; the published ones have 2**27
_MEMBERS = {f"{name}.pth" for name in NETWORKS}
_FAULTS = (BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)  # of zipfile


@dataclass(frozen=True)
class Record:
    """Source of a model in the cache, and the digests of its files."""

    source: str
    sha256: Digest  # of the archive
    files: dict[FileName, Digest]


def locate(path: str | Path, weights_dir: Path | None = None) -> Path:
    """Returns the path of weights; those that are given by name are downloaded if needed.

    Args:
        path: a path, which takes precedence; or the name of a published model, or an alias, to
            which ``#sha256=`` and the 64 digits of its archive's sha256 can be appended.
        weights_dir: a folder with ``NAME.zip`` or the extracted folder ``NAME``, which is then used
            instead of the network.

    Raises:
        WeightsError: if the name is misspelt, the model cannot be downloaded, or it is damaged.
    """
    path = Path(path)
    if path.exists() or "/" in str(path):
        return path
    name, _, pin = str(path).partition("#")
    published = find_published(name)
    if published is None:
        if similar := find_similar(name):
            raise WeightsError(
                f"{name} is neither a path nor the name of published weights; did you mean "
                f"{', '.join(similar)}?"
            )
        return path
    digest = re.fullmatch(r"(?:sha256=([0-9a-f]{64}))?", pin.lower())
    if digest is None:
        raise WeightsError(f"{path}: expected {name}#sha256= and 64 hexadecimal digits")
    if weights_dir is not None and (weights_dir / published).is_dir():
        if digest[1]:
            raise WeightsError(
                f"{weights_dir / published} is an extracted archive, whose sha256 cannot be "
                f"checked; put {published}.zip there, or leave out #sha256="
            )
        return weights_dir / published
    archive = weights_dir and weights_dir / f"{published}.zip"
    if archive and not archive.is_file():
        raise WeightsError(f"{weights_dir} has neither {archive.name} nor a folder {published}")
    try:
        return _fetch(published, digest[1], archive)
    except OSError as error:
        raise WeightsError(f"{published} cannot be stored: {error}; check the folder") from None


def find_missing(path: str | Path) -> str | None:
    """Returns the address from which `locate` would download; None if it would not."""
    name = str(path).partition("#")[0]
    if Path(path).exists() or "/" in str(path) or (published := find_published(name)) is None:
        return None
    is_here = (user_cache_folder("weights") / published).exists()
    return None if is_here else address_of(published)


def _fetch(name: str, sha256: str | None, archive: Path | None) -> Path:
    """Returns the folder of a model in the cache, filled from an archive or the network."""
    cache = user_cache_folder("weights")
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / name
    if archive and not sha256:
        sha256 = hash_file(archive)  # the model in the cache may be from another one
    with (cache / f".{name}.lock").open("w") as file:
        lock(file, required=False)  # other ranks wait
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=cache) as place:
                source = str(archive or address_of(name))
                archive = archive or _download(name, cache / f".{name}.zip")
                _check_archive(archive, MODELS[name], sha256)
                partial = Path(place, name)
                partial.mkdir()
                extract_networks(archive, partial)
                files = {path.name: hash_file(path) for path in partial.iterdir()}
                record = Record(source, hash_file(archive), files)
                (partial / _RECORD).write_text(json.dumps(asdict(record), indent=1))
                publish(partial, folder)
                (cache / f".{name}.zip").unlink(missing_ok=True)
                if MODELS[name].md5 is None:
                    logger.warning("no digest of %s is published; this is sha256=%s", name,
                                   record.sha256)  # fmt: skip
    _check_folder(folder, sha256)
    return folder


def _download(name: str, target: Path) -> Path:
    logger.warning(
        "downloading %s, weights by Niantic for non-commercial use only; licence: %s",
        address_of(name),
        LICENCE,
    )
    try:
        download_visibly(
            address_of(name),
            target,
            lambda path: _check_md5(path, MODELS[name].md5),
            max_bytes=_MAX_BYTES,
        )
    except DownloadError as error:
        raise WeightsError(
            f"{error}; without a network, pass the path of the extracted archive, or --weights-dir "
            f"with a folder that holds {name}.zip"
        ) from None
    return target


def _check_archive(archive: Path, model: PublishedModel, sha256: str | None) -> None:
    """Raises a WeightsError if an archive is not the published or expected one."""
    try:
        _check_md5(archive, model.md5)
        if sha256 and (found := hash_file(archive)) != sha256:
            raise DownloadError(f"its sha256 is {found}, expected {sha256}")
    except DownloadError as error:
        raise WeightsError(
            f"{archive} is not the expected archive: {error}; download it again"
        ) from None


def _check_md5(path: Path, expected: str | None) -> None:
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if expected is not None and found != expected:
        raise DownloadError(f"its md5 is {found}, expected {expected}")


def extract_networks(archive: Path, folder: Path) -> None:
    """Extracts the files of networks from a zip archive into a folder; nothing else is written.

    Raises:
        WeightsError: if the archive is damaged, or lacks a file, or holds one twice or too large.
    """
    try:
        with ZipFile(archive) as opened:
            members = [
                member
                for member in opened.infolist()
                if member.filename.rpartition("/")[2] in _MEMBERS
            ]
            names = [member.filename.rpartition("/")[2] for member in members]
            if len(names) != len(set(names)) or not {"encoder.pth", "depth.pth"} <= set(names):
                raise WeightsError(
                    f"{archive} has {', '.join(sorted(names)) or 'no weights'}; expected each of "
                    "encoder.pth and depth.pth once"
                )
            for name, member in zip(names, members, strict=True):
                if member.file_size > _MAX_BYTES:
                    raise WeightsError(f"{name} in {archive} has over {_MAX_BYTES} bytes")
                with opened.open(member) as source, (folder / name).open("xb") as target:
                    shutil.copyfileobj(source, target)  # no more than its announced size
    except _FAULTS as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{archive} is damaged: {error}; download it again") from None


def _check_folder(folder: Path, sha256: str | None) -> None:
    """Compares a model in the cache with its record."""
    try:
        record = read_json(folder / _RECORD, Record, WeightsError, "delete its folder")
        is_same = all(hash_file(folder / name) == record.files[name] for name in record.files)
    except (OSError, ValueError):
        record, is_same = None, False
    if record is None or not is_same:
        raise WeightsError(
            f"{folder} is damaged: its files differ from {_RECORD}; delete it, and it will be "
            "downloaded again"
        )
    if sha256 and record.sha256 != sha256:
        raise WeightsError(
            f"{folder} is from an archive of sha256 {record.sha256}, expected {sha256}; delete it, "
            "and it will be downloaded again"
        )
