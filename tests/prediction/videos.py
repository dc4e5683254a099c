"""Small videos, as cameras and phones make them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image


def moving_square(number: int, height: int = 48, width: int = 80) -> np.ndarray:
    """Returns (height, width, 3): a bright square on a gradient, 3 columns further each frame."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 1] = np.linspace(20, 200, height, dtype=np.uint8)[:, None]
    picture[8:24, 4 + 3 * number : 20 + 3 * number] = (250, 220, 40)
    return picture


def write_video(
    path: Path,
    pictures: list[np.ndarray],
    *,
    times: list[int] | None = None,
    rate: int = 10,
    rotation: int = 0,
    matrix: str = "itu709",
    is_full_range: bool = False,
    container_options: dict[str, str] | None = None,
) -> None:
    """Writes H.264 almost without losses, a key frame every 8 frames.

    Args:
        path: its suffix chooses the container.
        pictures: (H, W, 3) uint8, even sizes.
        times: of the frames in 1/90000 s, not in AVI; None: those of `rate`.
        rate: frames per second.
        rotation: counter-clockwise degrees that a player turns the frames by.
        matrix: itu709, itu601, or "" for BT.601 without saying so.
        is_full_range: whether values are in 0..255.
        container_options: options of the muxer.
    """
    import av

    code, name = {"itu709": (1, "itu709"), "itu601": (5, "itu601"), "": (2, "itu601")}[matrix]
    height, width = pictures[0].shape[:2]
    base = Fraction(1, rate if path.suffix == ".avi" else 90000)
    with av.open(path, "w", options=container_options or {}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        context = stream.codec_context
        context.gop_size, context.time_base = 8, base
        context.colorspace, context.color_range = code, 2 if is_full_range else 1
        if rotation:
            stream.set_display_rotation(rotation)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv444p",
                dst_colorspace=name,
                src_color_range=2,
                dst_color_range=context.color_range,
            )
            frame.pts = times[number] if times else round(number / rate / base)
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_video(path: Path) -> tuple[list[np.ndarray], list[float], list[str]]:
    """Returns the frames (H, W, 3) of a video, their times in s, and the types of its streams."""
    import av

    with av.open(path) as container:
        kinds = [stream.type for stream in container.streams]
        frames = list(container.decode(video=0))
        return (
            [frame.to_ndarray(format="rgb24") for frame in frames],
            [f.time for f in frames],
            kinds,
        )


def save_images(folder: Path, pictures: list[np.ndarray]) -> None:
    """Writes pictures (H, W, 3) as 000.png, 001.png, ..."""
    folder.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03d}.png")
