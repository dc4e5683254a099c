"""Renders synthetic drives with exact geometry in the layout of KITTI raw."""

from pathlib import Path

from md2dist.commands.options.common import CommandParser
from md2dist.console import run_command, write_line
from md2dist.synthetic.drives import DriveSettings, render_drives


def main() -> None:
    """Parses the command line and renders the drives."""
    parser = CommandParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="root of the KITTI tree")
    parser.add_argument(
        "--drives", type=int, default=2, help="number of drives, each in its own street"
    )
    parser.add_argument(
        "--first-drive", type=int, default=1, help="number of the first drive, which names it"
    )
    parser.add_argument("--frames", type=int, default=60, help="number of stereo frames per drive")
    parser.add_argument("--width", type=int, default=1242, help="image width in pixels")
    parser.add_argument("--height", type=int, default=375, help="image height in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world")
    parser.add_argument("--processes", type=int, default=1, help="number of worker processes")
    parser.add_argument(
        "--image-format", choices=("png", "jpg"), default="png", help="format of the images"
    )
    parser.add_argument(
        "--scan-every",
        type=int,
        default=1,
        help="interval between laser scans in frames; 0: no scans",
    )
    parser.add_argument(
        "--azimuth-step", type=float, default=0.3, help="azimuth step of the scanner in degrees"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing drives")
    options = parser.parse_args()
    settings = DriveSettings(
        num_drives=options.drives,
        num_frames=options.frames,
        height=options.height,
        width=options.width,
        seed=options.seed,
        scan_every=options.scan_every,
        azimuth_step=options.azimuth_step,
        image_format=options.image_format,
        first_drive=options.first_drive,
    )
    drives = render_drives(
        options.output, settings, processes=options.processes, overwrite=options.overwrite
    )
    write_line(f"drives of {options.frames} stereo frames: {len(drives)} in {drives[0].parent}")


if __name__ == "__main__":
    run_command(main)
