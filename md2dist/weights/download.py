"""Downloads of weight files, with a progress bar on a terminal."""

import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from md2dist.storage.download import download
from md2dist.storage.retries import INTERACTIVE


def download_visibly(
    url: str, target: Path, check: Callable[[Path], None], *, max_bytes: int
) -> None:
    """Downloads a file, or waits for another process that does; see `download`.

    Raises:
        DownloadError: as `download`.
    """
    is_silent = not sys.stderr.isatty()
    with tqdm(desc=target.name, unit="B", unit_scale=True, disable=is_silent) as bar:
        download(
            url,
            target,
            check,
            max_bytes=max_bytes,
            wait=True,
            retry_policy=INTERACTIVE,
            on_bytes=bar.update,
        )
