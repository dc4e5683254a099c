"""Packs KITTI or own videos into WebDataset shards: resized once, shuffled, with a manifest.

An interrupted packing resumes with the same command. Several machines share the work as tasks,
each with the same options and its own --task-index; --merge then completes the packing:

    md2dist pack ... --num-tasks 8 --task-index $SLURM_ARRAY_TASK_ID
    md2dist pack ... --num-tasks 8 --merge
"""

import argparse
import shlex
from pathlib import Path
from typing import get_args

from md2dist.commands.options.common import CommandParser
from md2dist.config import SMALLEST_SIZE
from md2dist.console import run_command, write_line
from md2dist.data.images import ImageFormat
from md2dist.data.kitti.named_splits import Split, load_file, load_split, name_split
from md2dist.data.kitti.roots import open_kitti
from md2dist.data.kitti.source import KittiSource
from md2dist.data.packing.all_frames import ALL, select_all
from md2dist.data.packing.finished import find_finished
from md2dist.data.packing.merge import merge_shards
from md2dist.data.packing.plan import Plan, check_output, check_request, check_tasks, plan_samples
from md2dist.data.packing.source import FrameSource
from md2dist.data.packing.working_names import SKIPPED_NAME
from md2dist.data.packing.writer import Progress, pack_shards
from md2dist.data.recordings.source import open_recordings
from md2dist.data.shards.manifest import Manifest
from md2dist.data.shards.recipe import GroundTruth, Recipe
from md2dist.errors import ConfigError


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=__doc__)
    add = parser.add_argument
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument("--kitti-root", type=Path, nargs="+",
        help="folders or zip archives of KITTI raw, odometry or annotated depth")  # fmt: skip
    origin.add_argument("--frames", type=Path, nargs="+",
        help="own data: folders of frames, videos, or folders of these, each with a camera.yaml "
        "(docs/own_data.md)")  # fmt: skip
    add(
        "--split",
        required=True,
        help="split file, a name such as eigen_zhou/train or rule/train, or all: every frame of "
        "every sequence that has its neighbours (--frame-offsets) and, where they are packed, the "
        "other camera (--stereo) and ground truth (--ground-truth)",
    )
    add("--only", nargs="+", default=[], metavar="SEQUENCE",
        help="sequences that --split all takes; all of them if not given")  # fmt: skip
    add("--hold-out", nargs="+", default=[], metavar="SEQUENCE",
        help="sequences that --split all leaves out, for validation or tests")  # fmt: skip
    add("--splits-dir", type=Path, help="folder of NAME/PART_files.txt, used instead of a download")
    add("--output", required=True, help="folder for the shards and index.json")
    add("--height", type=int, default=192, help="image height in pixels, a multiple of 32")
    add("--width", type=int, default=640, help="image width in pixels, a multiple of 32")
    add("--size", choices=["resized", "native"], default="resized",
        help="image size; native: as in KITTI, ignoring --height and --width")  # fmt: skip
    add("--frame-offsets", type=int, nargs="*", default=[-1, 1],
        help="offsets of the neighbouring frames to pack")  # fmt: skip
    add("--stereo", action=argparse.BooleanOptionalAction, default=True,
        help="pack the image of the other camera")  # fmt: skip
    add("--image-format", choices=get_args(ImageFormat), default="png",
        help="format of the packed images; jpg is lossy")  # fmt: skip
    add("--quality", type=int, default=95, help="quality of jpg images, 1 to 100")
    add("--samples-per-shard", type=int, default=256,
        help="number of samples per shard; the last may have fewer")  # fmt: skip
    add("--order", choices=["shuffled", "sequential"], default="shuffled",
        help="sample order; sequential: as in the split, for evaluation and video")  # fmt: skip
    add("--seed", type=int, default=0, help="seed of the shuffled order")
    add("--processes", type=int, default=1, help="number of worker processes")
    add("--num-tasks", type=int, default=1, help="number of tasks that share the shards")
    add("--task-index", type=int, default=0, help="index of this task, from 0")
    add("--merge", action="store_true", help="complete the packing after all tasks have finished")
    add("--ground-truth", choices=get_args(GroundTruth), default="none",
        help="depth to pack; velodyne: for protocol eigen, annotated: eigen_benchmark, depth: own "
        "depth maps of --frames, for protocol uncropped")  # fmt: skip
    add("--skip-bad", action="store_true", help="skip samples with missing or damaged files")
    add("--overwrite", action="store_true", help="replace the shards in the output folder")
    return parser.parse_args()


def print_progress(progress: Progress, options: argparse.Namespace) -> None:
    """Prints the number of shards and images that a task has packed."""
    write_line(
        f"task {options.task_index} of {options.num_tasks}: {progress.num_shards} shards packed, "
        f"{progress.num_kept} of them earlier"
    )
    if progress.num_images:
        rate = progress.num_images / progress.image_seconds
        write_line(
            f"{progress.num_images} distinct images encoded, {rate:.1f} images/s per process"
        )


def print_summary(manifest: Manifest, shards: Path, *, is_own: bool) -> None:
    """Prints a summary of the packed shards and the next command."""
    megabytes = sum(shard.num_bytes for shard in manifest.shards) / 1e6
    for drive in manifest.skipped:
        write_line(f"skipped {drive}")
    write_line(
        f"{manifest.num_samples} samples in {len(manifest.shards)} shards, {megabytes:.1f} MB, "
        f"{manifest.num_skipped} skipped"
        + f" (listed in {shards / SKIPPED_NAME})"
        * bool(manifest.skipped)
    )
    write_line(f"next: {next_command(manifest.recipe, shards, is_own=is_own)}")


def next_command(recipe: Recipe, shards: Path, *, is_own: bool = False) -> str:
    """Returns the command that uses shards of this recipe, of KITTI or of own videos."""
    mode = "mono" * bool(recipe.frame_offsets), "stereo" * recipe.use_stereo
    config = "_".join(filter(None, mode))
    if recipe.height is None:
        opening = f"ShardDataset({str(shards)!r})[0]"
        return f"from md2dist.data.shards import ShardDataset; {opening}"
    if min(recipe.height, recipe.width or 0) < SMALLEST_SIZE:
        return f"the networks need height and width >= {SMALLEST_SIZE}; pack larger images to train"
    evaluation = ["--checkpoint", "RUN", "--shards", str(shards)]
    if not config:
        return shlex.join(["md2dist", "evaluate", *evaluation])
    if (recipe.order, recipe.frame_offsets, recipe.use_stereo) == ("sequential", (1,), False):
        return shlex.join(["md2dist", "evaluate-odometry", *evaluation, "--poses", "POSES"])
    settings = [f"data.train_shards={shards}"]
    settings += [f"data.height={recipe.height}", f"data.width={recipe.width}"]
    if recipe.frame_offsets not in ((), (-1, 1)):  # those of the configs
        settings.append(f"data.frame_offsets={list(recipe.frame_offsets)}".replace(" ", ""))
    settings += ["data.use_true_intrinsics=true"] * is_own
    program = Path("launch", "train.py")  # of a checkout
    train = [str(program)] if program.is_file() else ["--module", "md2dist.commands.train"]
    return shlex.join(["deepspeed", "-q", *train, "--config", f"configs/{config}.yaml", *settings])


def make_plan(options: argparse.Namespace) -> Plan:
    """Checks the options, opens KITTI and the split, and plans the shards."""
    is_native = options.size == "native"
    recipe = Recipe(
        split=name_split(options.split),
        height=None if is_native else options.height,
        width=None if is_native else options.width,
        frame_offsets=tuple(options.frame_offsets),
        use_stereo=options.stereo,
        image_format=options.image_format,
        image_quality=options.quality,
        samples_per_shard=options.samples_per_shard,
        seed=options.seed,
        ground_truth=options.ground_truth,
        order=options.order,
    )
    check_output(options.output)
    check_request(recipe)
    check_tasks(options.num_tasks, options.task_index, options.processes)
    source, split = open_source(options, recipe)
    write_line(f"split {split.origin}")
    return plan_samples(
        source, split.lines, recipe, skip_bad=options.skip_bad, skipped=split.skipped
    )


def open_source(options: argparse.Namespace, recipe: Recipe) -> tuple[FrameSource, Split]:
    """Opens KITTI or own videos, and their split."""
    is_all = options.split == ALL and not Path(ALL).is_file()
    if (options.only or options.hold_out) and not is_all:
        raise ConfigError(f"--only and --hold-out belong to --split {ALL}, not {options.split}")
    if options.frames:
        source = open_recordings(*options.frames)
        split = None if is_all else load_file(options.split)
    else:
        tree = open_kitti(*options.kitti_root)
        source = KittiSource(tree)
        split = (
            None
            if is_all
            else load_split(
                options.split,
                tree,
                frame_offsets=recipe.frame_offsets,
                use_stereo=recipe.use_stereo,
                splits_dir=options.splits_dir,
                skip_bad=options.skip_bad,
            )
        )
    if split is None:
        found = select_all(
            source,
            recipe,
            only=options.only,
            hold_out=options.hold_out,
            skip_bad=options.skip_bad,
        )
        split = Split(found.lines, str(found), found.skipped)
    return source, split


def main() -> None:
    """Plans, packs and merges; prints a summary."""
    options = parse_arguments()
    plan, output = make_plan(options), Path(options.output)
    if not options.overwrite and (finished := find_finished(plan, output)):
        write_line(
            f"{output} holds this packing already, complete and unchanged: "
            f"{finished.num_samples} samples in {len(finished.shards)} shards, "
            f"{finished.num_skipped} skipped"
        )
        return
    if not options.merge:
        progress = pack_shards(
            plan,
            output,
            task_index=options.task_index,
            num_tasks=options.num_tasks,
            num_processes=options.processes,
            overwrite=options.overwrite,
            show_progress=True,
        )
        print_progress(progress, options)
    if options.merge or options.num_tasks == 1:
        manifest = merge_shards(
            plan, output, num_tasks=options.num_tasks, overwrite=options.overwrite
        )
        print_summary(manifest, output, is_own=bool(options.frames))
    else:
        write_line(
            "next: run the other tasks, then this command with --merge and without --task-index"
        )


if __name__ == "__main__":
    run_command(main)
