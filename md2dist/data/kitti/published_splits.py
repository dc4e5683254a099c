"""The published split lists, downloaded on request and checked by sha256.

The lists belong to the authors of Monodepth2 and are not part of this project. Their
``benchmark/test`` is omitted: it numbers the images of KITTI's depth benchmark server, which are in
no drive.
"""

from pathlib import Path
from typing import NamedTuple

from md2dist.errors import ConfigError, DownloadError, SplitError
from md2dist.storage.cache_folder import user_cache_folder
from md2dist.storage.download import check_sha256, download
from md2dist.storage.retries import INTERACTIVE, RetryPolicy

BASE_URL = (
    "https://raw.githubusercontent.com/nianticlabs/monodepth2/"
    "b676244e5a1ca55564eb5d16ab521a48f823af31/splits"
)


_MAX_BYTES = 1 << 24  # of a list


class PublishedList(NamedTuple):
    """A file of the ``splits`` folder of the authors' repository."""

    path: str  # relative to that folder
    sha256: str


PUBLISHED_SPLITS = {
    "benchmark/train": PublishedList(
        "benchmark/train_files.txt",
        "060fdce26c5cd0681b6cc7620a856c697caa78fd23ab7a9ba41fb39c70ae3860",
    ),
    "benchmark/val": PublishedList(
        "benchmark/val_files.txt",
        "5c65577de234037bec0c792d7bf44c60b7fb367449266054eb4612a5e92bfa08",
    ),
    "eigen/test": PublishedList(
        "eigen/test_files.txt",
        "e226d4ca16e0e6e9695435014347dcf973588531330536fd8a68d298ef091a6b",
    ),
    "eigen_benchmark/test": PublishedList(
        "eigen_benchmark/test_files.txt",
        "d56e5e509e6960a01fb93795f85028ac6e4a82ad40e64b6e968988e4db95b9be",
    ),
    "eigen_full/train": PublishedList(
        "eigen_full/train_files.txt",
        "1b491141d87b7af9e6706609b7ce858c198c3a4ca61d180c7dc90815d5f2a986",
    ),
    "eigen_full/val": PublishedList(
        "eigen_full/val_files.txt",
        "9c4446772ec58aaa60acbeef0fa6d1e8ef1b346ad4f78272d056d10cf1993af9",
    ),
    "eigen_zhou/train": PublishedList(
        "eigen_zhou/train_files.txt",
        "00173a231642151c4693274e701ddd4cae7916520a757c7a94eae8e1173f7b0c",
    ),
    "eigen_zhou/val": PublishedList(
        "eigen_zhou/val_files.txt",
        "64a868b8d2c66c3979a2d74c22ea2e9146850d5b9f5786ed8e5f92201ba1ad04",
    ),
    "odom/train": PublishedList(
        "odom/train_files.txt",
        "ced6c5fd1b0b76e2a28d68e046421c1f0df08de8fb713ca305684d263af6d0e2",
    ),
    "odom/val": PublishedList(
        "odom/val_files.txt",
        "9cf46e1b873d6f9883015b1f77fcace51db424a1f0a765324957f46399b6db99",
    ),
    "odom/test_09": PublishedList(
        "odom/test_files_09.txt",
        "8b999b6f974041663ba2f8aa6456ea338089a272119b7edd702f352278f43d26",
    ),
    "odom/test_10": PublishedList(
        "odom/test_files_10.txt",
        "f39c47e0c21f65d4503476375f2a786def34f54bd5d1cabf28c7e68f002986a1",
    ),
}


def cache_folder() -> Path:
    """Returns the folder of downloaded lists: ``md2dist/splits`` in the user's cache folder.

    Raises:
        SplitError: if this user has no home folder.
    """
    try:
        return user_cache_folder("splits")
    except ConfigError as error:
        raise SplitError(f"{error}, or pass --splits-dir DIR") from None


def fetch_split(
    name: str, base_url: str = BASE_URL, retry_policy: RetryPolicy = INTERACTIVE
) -> Path:
    """Returns a published list from the cache, where its sha256 is checked, or downloads it.

    Args:
        name: one of `PUBLISHED_SPLITS`.
        base_url: address of the ``splits`` folder, of the authors' repository or of a mirror.
        retry_policy: retries and timeout for a server that fails.

    Raises:
        SplitError: if the list cannot be downloaded.
    """
    listed = PUBLISHED_SPLITS[name]
    target = cache_folder() / listed.path
    try:
        check_sha256(target, listed.sha256)
        return target
    except (OSError, DownloadError):  # absent or damaged
        pass
    try:
        download(
            f"{base_url}/{listed.path}",
            target,
            lambda path: check_sha256(path, listed.sha256),
            max_bytes=_MAX_BYTES,
            wait=True,
            retry_policy=retry_policy,
        )
    except DownloadError as error:
        raise SplitError(
            f"split {name} cannot be fetched: {error}; alternatively, pass --splits-dir with a "
            f"folder that holds {listed.path}"
        ) from None
    return target
