"""Prediction of clips: into a folder, frame by frame, or into a video of input beside disparity."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from md2dist.data.video import import_av
from md2dist.errors import ImageError, VideoError
from md2dist.model import MonodepthModel
from md2dist.pipeline import iterate_ahead
from md2dist.prediction.batches import Loaded, group_by_pixels, predict_in_batches
from md2dist.prediction.clips import Clip, Shot, find_bounds
from md2dist.prediction.image_files import RESULT_ENDINGS, is_marked
from md2dist.prediction.result_files import ResultWriter, draw_result, scaled_depth
from md2dist.prediction.video_writer import CONTAINERS, WIDEST, VideoWriter, convert_picture
from md2dist.storage.results import write_result

if TYPE_CHECKING:
    import av

Result = TypeVar("Result")
_NUM_AHEAD = 4  # frames that are decoded ahead


def refuse_foreign_frames(video: Path, output: Path) -> None:
    """Checks that the results of a video's frames replace only results of earlier predictions.

    Raises:
        ImageError: naming a file that is named as such a result and is none.
    """
    endings = "|".join(RESULT_ENDINGS)
    result = re.compile(rf"{re.escape(video.stem)}_\d{{6,}}({endings})\.(png|npy|ply)")
    for path in sorted(output.iterdir()) if output.is_dir() else ():
        if result.fullmatch(path.name) and not is_marked(path):
            raise ImageError(
                f"{path} exists, and is not a prediction; name another --output, or pass "
                "--overwrite"
            )


def predict_frames(
    model: MonodepthModel, clip: Clip, stem: str, writer: ResultWriter, batch_size: int
) -> Generator[Path]:
    """Predicts a clip and writes the files of `ResultWriter` for each frame, as STEM_000000_....

    Args:
        model: in eval mode.
        clip: the frames.
        stem: begins the names of the files.
        writer: its colour scale is replaced by that of the clip.
        batch_size: as for `predict_files`.

    Yields:
        The depth file of each frame, in order.

    Raises:
        VideoError: if the clip cannot be read, after the frames before are predicted.
        ImageError: if a result cannot be written.
        PredictionError: if a depth is not positive and finite.
    """
    crops = writer.options.crop_to_aspect
    if writer.options.with_pictures:
        writer = replace(writer, bounds=find_bounds(model, clip, crop_to_aspect=crops))

    def finish(item: tuple[int, Shot], loaded: Loaded, disparity: NDArray[np.float32]) -> Path:
        """Writes the results of scaled disparity (H, W)."""
        return writer.write(f"{stem}_{item[0]:06d}", loaded, disparity)

    with closing(_predict(model, clip, finish, batch_size, crop_to_aspect=crops)) as results:
        yield from results


def predict_video(
    model: MonodepthModel,
    clip: Clip,
    writer: ResultWriter,
    batch_size: int,
    on_frame: Callable[[], object] = lambda: None,
) -> None:
    """Predicts a clip and writes a video of its frames beside their disparity, with a colour bar.

    The video appears once it is complete. Its times are those of the clip, from 0.

    Args:
        model: in eval mode.
        clip: frames of one size.
        writer: its output is the video, with a suffix of `CONTAINERS`; of its options, the depth's
            unit and the crop count.
        batch_size: as for `predict_files`.
        on_frame: called for each frame that is written.

    Raises:
        VideoError: if the clip cannot be read, its frames differ in size, or the video cannot be
            encoded.
        ImageError: if an image cannot be read, or the video cannot be written.
        PredictionError: if a depth is not positive and finite.
    """
    av = import_av()
    options, output = writer.options, writer.output
    bounds = find_bounds(model, clip, crop_to_aspect=options.crop_to_aspect)

    def finish(
        item: tuple[int, Shot], loaded: Loaded, disparity: NDArray[np.float32]
    ) -> tuple[Shot, av.VideoFrame]:
        """Draws scaled disparity (H, W)."""
        scaled_depth(disparity, writer.factor)  # checks it
        picture = draw_result(
            loaded.image, disparity, bounds, writer.factor, is_metric=options.is_metric
        )
        return item[1], convert_picture(picture)

    def write(file: BinaryIO) -> None:
        video = VideoWriter(file, CONTAINERS[output.suffix.lower()], clip.info)
        try:
            with closing(
                _predict(
                    model,
                    clip,
                    finish,
                    batch_size,
                    crop_to_aspect=options.crop_to_aspect,
                    widest=WIDEST // 2,
                )
            ) as results:
                for shot, frame in results:
                    video.write(frame, shot.time, shot.duration)
                    on_frame()
        except BaseException:
            with suppress(av.FFmpegError, OSError):
                video.close()
            raise
        video.close()

    try:
        write_result(output, write)
    except av.FFmpegError as error:
        raise VideoError(f"{output} cannot be written: {error.strerror}") from None


def _predict(
    model: MonodepthModel,
    clip: Clip,
    finish: Callable[[tuple[int, Shot], Loaded, NDArray[np.float32]], Result],
    batch_size: int,
    *,
    crop_to_aspect: bool,
    widest: int | None = None,
) -> Generator[Result]:
    """Predicts all frames of a clip; `finish` gets the number of each and its disparity (H, W)."""
    with closing(iterate_ahead(enumerate(clip.shots()), _NUM_AHEAD)) as shots:
        batches = group_by_pixels(shots, lambda item: item[1].num_pixels, batch_size)
        for result in predict_in_batches(
            model,
            batches,
            lambda item: item[1].load(),
            finish,
            crop_to_aspect=crop_to_aspect,
            widest=widest,
        ):
            if isinstance(result, ImageError):
                raise result
            yield result
