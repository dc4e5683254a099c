"""Describes a folder of shards: a dataset card, and a contact sheet of random samples."""

import argparse
from pathlib import Path

from md2dist.console import run_command
from md2dist.data.inspection.data_card import describe_shards
from md2dist.data.shards.dataset import ShardDataset


def main() -> None:
    """Prints the dataset card, and draws the contact sheet on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("folder", help="folder of index.json and the shards, or its URL (http, https, s3, pipe)")
    add("--picture", type=Path, metavar="OUT.png", help="image file for the contact sheet")
    add("--samples", type=int, default=4, help="number of samples on the contact sheet")
    add("--seed", type=int, default=0, help="random seed of the sample selection")
    options = parser.parse_args()
    print(describe_shards(options.folder))
    if options.picture:
        # Imported lazily: drawing needs torch, which takes a second to import; the card does not.
        from md2dist.prediction.contact_sheet import draw_random_samples
        from md2dist.prediction.image_files import write_picture

        dataset = ShardDataset(options.folder)
        write_picture(options.picture, draw_random_samples(dataset, options.samples, options.seed))
        print(f"\n{options.picture}")


if __name__ == "__main__":
    run_command(main)
