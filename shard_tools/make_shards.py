"""Packs a KITTI split into WebDataset shards: resized once, shuffled, with a manifest."""

import argparse
import time
from pathlib import Path

from tqdm import tqdm

from md2dist.data.named_splits import load_split, name_split
from md2dist.data.shard_format import Recipe, view_names
from md2dist.data.shard_plan import check_request, plan_samples
from md2dist.data.shard_writer import write_shards
from md2dist.errors import run_command


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--kitti-root", type=Path, required=True, help="folder of the dates of KITTI raw")
    add("--split", required=True, help="a file, or a name: eigen_zhou/train, rule/train")
    add("--splits-dir", type=Path, help="of NAME/PART_files.txt, instead of downloading them")
    add("--output", type=Path, required=True, help="folder for the shards and index.json")
    add("--height", type=int, default=192, help="rows, a multiple of 32")
    add("--width", type=int, default=640, help="columns, a multiple of 32")
    add("--frame-offsets", type=int, nargs="*", default=[-1, 1], help="neighbours to pack")
    add("--stereo", action=argparse.BooleanOptionalAction, default=True, help="the other camera")
    add("--image-format", choices=["png", "jpg", "webp"], default="png", help="jpg is lossy")
    add("--quality", type=int, default=95, help="of jpg, 1 to 100")
    add("--samples-per-shard", type=int, default=256, help="fewer in the last shard")
    add("--processes", type=int, default=1, help="shards packed at the same time")
    add("--seed", type=int, default=0, help="of the order of the samples")
    add("--ground-truth", choices=["none", "velodyne"], default="none", help="for validation")
    add("--skip-bad", action="store_true", help="leave out samples with missing or broken files")
    add("--overwrite", action="store_true", help="replace the shards in the output folder")
    return parser.parse_args()


def next_command(recipe: Recipe, shards: Path) -> str:
    """The command that makes use of shards with these views."""
    mode = "mono" * bool(recipe.frame_offsets), "stereo" * recipe.use_stereo
    config = "_".join(filter(None, mode))
    if not config:
        return f"python launch/evaluate.py --checkpoint RUN --shards {shards}"
    return (
        f"deepspeed launch/train.py --config configs/{config}.yaml data.train_shards={shards} "
        f"data.height={recipe.height} data.width={recipe.width}"
    )


def main() -> None:
    """Plans, packs, and says what came of it."""
    options = parse_arguments()
    recipe = Recipe(
        split=name_split(options.split),
        height=options.height,
        width=options.width,
        frame_offsets=tuple(options.frame_offsets),
        use_stereo=options.stereo,
        image_format=options.image_format,
        image_quality=options.quality,
        samples_per_shard=options.samples_per_shard,
        seed=options.seed,
        ground_truth=options.ground_truth,
    )
    check_request(recipe)
    split = load_split(
        options.split,
        options.kitti_root,
        frame_offsets=recipe.frame_offsets,
        use_stereo=recipe.use_stereo,
        splits_dir=options.splits_dir,
    )
    print(f"split {split.origin}")
    samples, skipped = plan_samples(
        options.kitti_root, split.lines, recipe, skip_bad=options.skip_bad
    )
    start = time.monotonic()
    with tqdm(total=len(samples), unit="sample") as bar:
        manifest = write_shards(
            options.kitti_root,
            samples,
            recipe,
            options.output,
            skipped=skipped,
            num_processes=options.processes,
            skip_bad=options.skip_bad,
            overwrite=options.overwrite,
            on_shard=bar.update,
        )
    seconds = time.monotonic() - start
    num_images = manifest.num_samples * len(view_names(recipe.frame_offsets, recipe.use_stereo))
    megabytes = sum(shard.num_bytes for shard in manifest.shards) / 1e6
    for line, reason in manifest.skipped:
        print(f"skipped {line}: {reason}")
    print(
        f"{manifest.num_samples} samples in {len(manifest.shards)} shards, {megabytes:.1f} MB, "
        f"{len(manifest.skipped)} skipped, {num_images / seconds:.0f} images/s"
    )
    print(f"next: {next_command(recipe, options.output)}")


if __name__ == "__main__":
    run_command(main)
