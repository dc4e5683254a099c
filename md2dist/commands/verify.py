"""Checks a folder of shards and lists all faults; exit code 1 if there are any."""

import sys

from tqdm import tqdm

from md2dist.commands.options.common import CommandParser
from md2dist.console import run_command, write_line
from md2dist.data.inspection.verification import verify_shards
from md2dist.data.shards.manifest import read_manifest


def main() -> None:
    """Checks the shards and prints the faults."""
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    add("folder", help="folder of index.json and shards, or its URL (http, https, s3, pipe)")
    add("--decode", choices=["all", "sample", "none"], default="all",
        help="images to decode; sample: those of a few random samples per shard")  # fmt: skip
    add("--against", metavar="EVAL_FOLDER",
        help="folder of evaluation shards, which must show none of the same frames")  # fmt: skip
    add("--seed", type=int, default=0, help="random seed of --decode sample")
    add("--processes", type=int, default=1, help="number of worker processes")
    options = parser.parse_args()
    num_bytes = sum(shard.num_bytes for shard in read_manifest(options.folder).shards)
    with tqdm(total=num_bytes, unit="B", unit_scale=True) as bar:
        report = verify_shards(**vars(options), on_shard=bar.update)
    for fault in report.faults:
        write_line(fault)
    manifest = report.manifest
    write_line(
        f"{options.folder}: {report.num_found} of {manifest.num_samples} samples found in "
        f"{len(manifest.shards)} shards, {len(report.faults)} faults"
    )
    gaps = [length for lengths in report.gaps.values() for length in lengths]
    if gaps:
        write_line(
            f"note: {len(gaps)} gaps between frames of a drive, the longest of {max(gaps)} frames"
        )
    if report.faults:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
