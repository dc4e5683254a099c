"""Pictures of the images with the largest errors: image, prediction, ground truth, error map."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch.nn.functional import interpolate, max_pool2d

from md2dist.data.shards.dataset import Sample, ShardDataset
from md2dist.errors import EvaluationError
from md2dist.evaluation.depth import SamplePredictor, read_ground_truth
from md2dist.evaluation.depth_metrics import (
    MAX_DEPTH,
    MIN_DEPTH,
    Map,
    ProtocolName,
    Scaling,
    depth_factor,
    match_depths,
    valid_pixels,
)
from md2dist.evaluation.depth_scores import ImageScore, list_worst
from md2dist.evaluation.disparity_file import to_float32
from md2dist.prediction.colour_maps import colour_disparity, colour_error
from md2dist.prediction.pictures import Picture, depth_overlay

LARGEST_ERROR = 0.5  # relative; larger ones have the last colour
_WIDTH = 1040  # of a tile, pixels
_PANEL_WIDTH = 416  # of a panel that each validation keeps
_GAP, _TITLE, _CAPTION = 12, 30, 22  # font sizes
_INK, _GREY = (24, 24, 27), (113, 113, 122)


def draw_worst(
    scores: Sequence[ImageScore],
    count: int,
    predict: SamplePredictor,
    dataset: ShardDataset,
    protocol: ProtocolName,
) -> Iterator[tuple[str, Picture]]:
    """Draws the images with the largest abs_rel, the largest first.

    Args:
        scores: of all samples of the data set, in order.
        count: number of images.
        predict: the predictor that was scored.
        dataset: the samples.
        protocol: protocol of the scores.

    Yields:
        Key and picture (H, W, 3) of each.

    Raises:
        ShardError: if a sample cannot be read.
        EvaluationError: if it has no prediction any more.
    """
    for index in list_worst(scores, count):
        sample = dataset[index]
        (disparity,) = predict([index], [sample])
        if isinstance(disparity, EvaluationError):
            raise disparity
        yield sample.key, draw_errors(sample, disparity, scores[index], protocol)


def draw_errors(
    sample: Sample, disparity: Map, score: ImageScore, protocol: ProtocolName
) -> Picture:
    """Draws one image in four tiles, with its metrics.

    Args:
        sample: with ground truth (H, W).
        disparity: (h, w) scaled disparity in 1/m.
        score: its score.
        protocol: selects the pixels of ground truth and error map.

    Returns:
        (H, W, 3) on white.
    """
    tiles = _draw_tiles(sample, disparity, score.factor, protocol)
    metrics = score.metrics
    title = (
        f"{sample.key}   abs_rel {metrics.abs_rel:.3f}   rmse {metrics.rmse:.2f} m   "
        f"a1 {metrics.a1:.3f}   factor {score.factor:.3g}"
    )
    return _arrange(title, tiles)


def draw_validation_panel(
    sample: Sample, disparity: Map, protocol: ProtocolName, scaling: Scaling
) -> Picture:
    """Draws one validation image: image, predicted disparity, ground truth over it, and error.

    Args:
        sample: with ground truth (H, W).
        disparity: (h, w) scaled disparity in 1/m.
        protocol: as for `evaluate_image`.
        scaling: as for `evaluate_image`.

    Returns:
        The four tiles below each other, (4 h', 416, 3) uint8.

    Raises:
        ShardError: if the sample has no ground truth.
        EvaluationError: as `evaluate_image`.
    """
    predicted, true = match_depths(disparity, read_ground_truth(sample), protocol)
    factor = depth_factor(predicted, true, scaling)
    tiles = list(_draw_tiles(sample, disparity, factor, protocol).values())
    height = round(_PANEL_WIDTH * tiles[-1].shape[0] / tiles[-1].shape[1])
    shown = [Image.fromarray(tile) for tile in tiles]
    small = [tile.resize((_PANEL_WIDTH, height), Image.Resampling.LANCZOS) for tile in shown]
    return np.vstack([np.asarray(tile) for tile in small])


def _draw_tiles(
    sample: Sample, disparity: Map, factor: float, protocol: ProtocolName
) -> dict[str, Picture]:
    """Draws image, disparity (h, w), ground truth and error, (H, W, 3) each, by their captions."""
    ground_truth = read_ground_truth(sample)
    mask = valid_pixels(ground_truth.astype(np.float64), protocol)
    predicted, true = match_depths(disparity, ground_truth, protocol)
    depth = np.clip(predicted * factor, MIN_DEPTH, MAX_DEPTH)
    errors = np.zeros(ground_truth.shape)
    errors[mask] = np.abs(depth - true) / true
    image = sample.frames["0"]
    return {
        "image": image,
        "predicted disparity, near is bright": colour_disparity(_resize(disparity, mask.shape)),
        "ground truth, near is bright": depth_overlay(image, np.where(mask, ground_truth, 0)),
        f"error |d - gt| / gt, blue 0, red >= {LARGEST_ERROR}": _error_overlay(image, errors, mask),
    }


def _error_overlay(
    image: Picture, errors: NDArray[np.floating], mask: NDArray[np.bool_]
) -> Picture:
    """Draws relative errors (H, W) where the mask (H, W) is True, over the faded image (h, w, 3).

    Each is a 3x3 point, large ones on top.
    """
    height, width = errors.shape
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    picture = np.asarray(resized.convert("L").convert("RGB")) // 3
    levels = torch.from_numpy(np.where(mask, errors, -1.0))
    points = max_pool2d(levels[None], 3, stride=1, padding=1)[0].numpy()
    known = points >= 0
    picture[known] = colour_error(points[known] / LARGEST_ERROR)
    return picture


def _resize(disparity: Map, size: tuple[int, int]) -> NDArray[np.floating]:
    """Resizes a map (h, w) to (H, W) as the evaluation does."""
    values = torch.from_numpy(to_float32(disparity).copy())[None, None]
    return interpolate(values, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()


def _arrange(title: str, tiles: dict[str, Picture]) -> Picture:
    """Arranges tiles (H, W, 3) with their captions, two per row; returns (H', W', 3)."""
    height, width = next(reversed(tiles.values())).shape[:2]
    tile_height = round(height * _WIDTH / width)
    pitch = tile_height + _CAPTION + 2 * _GAP
    top = _TITLE + 2 * _GAP
    rows = (len(tiles) + 1) // 2
    sheet = Image.new("RGB", (2 * _WIDTH + 3 * _GAP, top + rows * pitch), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, _GAP), title, _INK, ImageFont.load_default(_TITLE))
    for number, (caption, tile) in enumerate(tiles.items()):
        x = _GAP + number % 2 * (_WIDTH + _GAP)
        y = top + number // 2 * pitch
        pen.text((x, y), caption, _GREY, ImageFont.load_default(_CAPTION))
        shown = Image.fromarray(tile).resize((_WIDTH, tile_height), Image.Resampling.LANCZOS)
        sheet.paste(shown, (x, y + _CAPTION + _GAP))
    return np.asarray(sheet)
