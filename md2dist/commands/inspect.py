"""Prints a data-set card of a folder of shards; draws a contact sheet of random samples."""

from pathlib import Path

from md2dist.commands.options.common import CommandParser, add_overwrite
from md2dist.console import run_command, write_line, write_lines
from md2dist.data.inspection.data_card import describe_shards
from md2dist.data.shards.dataset import ShardDataset
from md2dist.prediction.image_files import is_marked, write_picture
from md2dist.storage.results import prepare_file


def main() -> None:
    """Prints the card; draws the contact sheet if --picture is given."""
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    add("folder", help="folder of index.json and shards, or its URL (http, https, s3, pipe)")
    add(
        "--picture",
        type=Path,
        metavar="OUT.png",
        help="PNG file for a contact sheet of random samples",
    )
    add("--samples", type=int, default=4, help="number of samples on the sheet")
    add("--seed", type=int, default=0, help="random seed of the samples on the sheet")
    add_overwrite(parser)
    options = parser.parse_args()
    if options.picture:
        prepare_file(options.picture, lambda path: options.overwrite or is_marked(path), [".png"])
    write_lines(describe_shards(options.folder))
    if options.picture:
        # Imported here: only drawing needs torch, whose import takes a second.
        from md2dist.prediction.contact_sheet import draw_random_samples

        dataset = ShardDataset(options.folder)
        write_picture(options.picture, draw_random_samples(dataset, options.samples, options.seed))
        write_lines("")
        write_line(options.picture)


if __name__ == "__main__":
    run_command(main)
