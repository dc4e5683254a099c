"""Downloads the KITTI raw archives: all 66 (175 GB), or those of selected drives."""

import shlex
from pathlib import Path

from tqdm import tqdm

from md2dist.commands.options.common import CommandParser
from md2dist.console import run_command, write_line
from md2dist.data.kitti.archives import BASE_URL, fetch_archive, list_archives, plan_download


def main() -> None:
    """Requests all sizes, then downloads the archives one by one."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the zip files")
    parser.add_argument(
        "--drives",
        nargs="+",
        default=["*"],
        metavar="DRIVE",
        help="dates or drives to download, with * as a wildcard; includes their calibration",
    )
    parser.add_argument("--base-url", default=BASE_URL, help="URL of the server or of a mirror")
    options = parser.parse_args()
    archives = plan_download(options.output, list_archives(options.drives), options.base_url)
    total = sum(archive.num_bytes for archive in archives)
    with tqdm(total=total, unit="B", unit_scale=True) as bar:
        for archive in archives:
            bar.set_description(archive.path.stem)
            fetch_archive(archive, on_bytes=bar.update)
    write_line(f"{len(archives)} archives, {total / 1e9:.1f} GB, in {options.output}")
    write_line(
        f"next: md2dist pack --kitti-root {shlex.quote(str(options.output))} "
        "--split NAME --output DIR"
    )


if __name__ == "__main__":
    run_command(main)
