"""Small recordings of random frames."""

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 96, 64
CAMERA = {"fx": 80.5, "fy": 81, "cx": 47.5, "cy": 30, "width": WIDTH, "height": HEIGHT}


def write_camera(folder: Path, **values: object) -> None:
    """Writes `camera.yaml`; values of None are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{name}: {value}\n" for name, value in (CAMERA | values).items() if value is not None]
    (folder / "camera.yaml").write_text("".join(lines))


def write_frames(folder: Path, count: int = 4, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Writes frame8.png, frame9.png, frame10.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(folder.name))
    for number in range(8, 8 + count):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"frame{number}.png")


def write_depth(folder: Path, numbers: list[int], size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Writes depth maps of 10 m, with the last row unknown."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = np.full((size[1], size[0]), 2560, np.uint16)
    counts[-1] = 0
    for number in numbers:
        Image.fromarray(counts).save(folder / f"frame{number}.png")


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    """Writes a video without loss."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10, options={"level": "3"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
