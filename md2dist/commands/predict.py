"""Predicts the depth of an image, of each image in a folder or a list, or of a video.

    md2dist predict --checkpoint runs/mono_stereo --input street.jpg --output depths

    md2dist predict --checkpoint runs/mono_stereo --input drive.mp4 --output depth.mp4

Writes NAME_depth.png (16 bit, 1/256 m) or NAME_depth.npy (float32, m), NAME_disparity.png (colour)
and NAME_picture.png (the image beside its disparity, with a colour bar of depth); for the frames of
a video, NAME_000000_depth.png and so on. With a video as output, its frames are these pictures.

The colours of a video mean the same depth in all of its frames: they span the disparities of up to
32 frames that are spread over it. Other images have colours of their own.
"""

import argparse
import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from md2dist.commands.options.prediction import (
    check_options,
    is_video,
    makes_video,
    parse_arguments,
)
from md2dist.console import print_error, run_command, write_line
from md2dist.conventions import STEREO_FACTOR
from md2dist.data.video import import_av
from md2dist.errors import ImageError, VideoError
from md2dist.prediction.camera import read_camera_source
from md2dist.prediction.image_files import find_images, refuse_foreign_results
from md2dist.prediction.image_list import read_image_list
from md2dist.storage.results import prepare_file, refuse_file_name

if TYPE_CHECKING:
    from tqdm import tqdm

    from md2dist.model import MonodepthModel
    from md2dist.prediction.clips import Clip
    from md2dist.prediction.result_files import ResultWriter

KITTI_RATE = 10  # frames per second


def main() -> None:
    """Predicts depth and prints the path of each depth file, or of the video."""
    arguments = parse_arguments(__doc__)
    check_options(arguments)
    images = [] if is_video(arguments.input) else list_images(arguments.input)
    refuse_foreign(arguments, images)
    # Late: they import torch, for seconds.
    import torch

    from md2dist.prediction.clips import image_clip, video_clip
    from md2dist.weights import load_model

    clip = None
    if is_video(arguments.input):
        clip = video_clip(arguments.input)
    elif makes_video(arguments):
        clip = image_clip(images, arguments.fps or Fraction(KITTI_RATE))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(arguments.checkpoint, device, arguments.dtype, arguments.weights_dir)
    writer = make_writer(model, arguments)
    if clip is None:
        predict_images(model, images, writer, arguments.batch_size)
    else:
        predict_clip(model, clip, arguments, writer)


def list_images(path: Path) -> list[Path]:
    """Lists the images of `--input`."""
    if str(path) == "-":
        return read_image_list(sys.stdin.buffer if sys.stdin else io.BytesIO())  # None: closed
    return find_images(path)


def refuse_foreign(arguments: argparse.Namespace, images: list[Path]) -> None:
    """Checks that results replace only results, unless `--overwrite` allows more.

    Raises:
        Md2distError: naming a file that would be replaced and is none.
    """
    output = arguments.output
    if makes_video(arguments):
        from md2dist.prediction.video_writer import is_marked_video

        import_av()
        if output.exists() and any(output.samefile(p) for p in images or [arguments.input]):
            raise VideoError(f"--output {output} is the input itself; name another file")
        prepare_file(output, lambda path: arguments.overwrite or is_marked_video(path))
        return
    refuse_file_name(output)
    if arguments.overwrite:
        return
    if images:
        others = ["_disparity.npy"] * arguments.disparity + ["_points.ply"] * arguments.point_cloud
        refuse_foreign_results(images, output, arguments.format, others)
    else:
        from md2dist.prediction.video_prediction import refuse_foreign_frames

        refuse_foreign_frames(arguments.input, output)


def make_writer(model: "MonodepthModel", arguments: argparse.Namespace) -> "ResultWriter":
    """Returns the writer of the results, and prints whether the depth is relative."""
    from md2dist.evaluation.depth_metrics import read_scaling
    from md2dist.prediction.result_files import PredictionOptions, ResultWriter

    factor = read_scaling(arguments.scale, {"auto": STEREO_FACTOR if model.use_stereo else 1.0})
    is_metric = arguments.scale != "auto" or model.use_stereo
    if not is_metric:
        write_line("This model was trained without stereo: its depth is relative, not in metres.")
        if arguments.format == "png" and not makes_video(arguments):
            write_line(
                "Values may be tens of times smaller than metres, and the PNG's step of 1/256 is "
                "coarse for them: use --format npy, or --scale FACTOR, for example the median "
                "ratio that `md2dist evaluate` prints."
            )
    camera = read_camera_source(arguments.intrinsics, arguments.fov)
    options = PredictionOptions(
        is_metric=is_metric,
        with_pictures=not arguments.no_pictures,
        with_disparity=arguments.disparity,
        points_of=camera if arguments.point_cloud else None,
        max_depth=arguments.max_depth,
        crop_to_aspect=arguments.crop_to_aspect,
    )
    return ResultWriter(arguments.output, factor, arguments.format, options)


def predict_images(
    model: "MonodepthModel", images: list[Path], writer: "ResultWriter", batch_size: int
) -> None:
    """Predicts images, with a progress bar on a terminal.

    Raises:
        ImageError: after the others are predicted, if images could not be read.
    """
    from md2dist.prediction.predictor import predict_files

    unread: list[str] = []
    with progress_bar(len(images), "images") as bar:

        def skip(error: ImageError) -> None:
            print_error(str(error))
            unread.append(str(error))
            bar.update()

        paths = predict_files(
            model,
            images,
            writer.output,
            factor=writer.factor,
            depth_format=writer.depth_format,
            on_unreadable=skip if len(images) > 1 else None,
            options=writer.options,
            batch_size=batch_size,
        )
        with closing(paths):
            print_paths(paths, bar)
    if unread:
        raise ImageError(
            f"{len(unread)} of {len(images)} images could not be read and have no results; the "
            "others are predicted"
        )


def predict_clip(
    model: "MonodepthModel", clip: "Clip", arguments: argparse.Namespace, writer: "ResultWriter"
) -> None:
    """Predicts a video, or makes one of images, with a progress bar on a terminal."""
    from md2dist.prediction.video_prediction import predict_frames, predict_video

    with progress_bar(clip.info.num_frames, "frames") as bar:
        if makes_video(arguments):
            predict_video(model, clip, writer, arguments.batch_size, bar.update)
        else:
            stem = arguments.input.stem
            paths = predict_frames(model, clip, stem, writer, arguments.batch_size)
            with closing(paths):
                print_paths(paths, bar)
    if makes_video(arguments):
        write_line(arguments.output)


@contextmanager
def progress_bar(total: int | None, unit: str) -> "Iterator[tqdm]":
    """Shows a progress bar on a terminal, unless there is only one image."""
    from tqdm import tqdm

    counts = "{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
    has_terminal = sys.stderr is not None and sys.stderr.isatty()
    with tqdm(
        total=total,
        unit=f" {unit}",
        bar_format=f"{{l_bar}}{{bar}}| {counts}" if total else None,
        dynamic_ncols=True,
        leave=False,
        disable=total == 1 or not has_terminal,
    ) as bar:
        yield bar


def print_paths(paths: Iterable[Path], bar: "tqdm") -> None:
    """Prints the path of each depth file."""
    for path in paths:
        bar.clear()  # the path may be printed on the same terminal
        write_line(path)
        bar.update()


if __name__ == "__main__":
    run_command(main)
