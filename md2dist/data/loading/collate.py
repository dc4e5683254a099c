"""Collation: decodes the raw samples of one micro-batch into its tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from md2dist.conventions import FOCAL_LENGTHS, STEREO_BASELINE
from md2dist.data.intrinsics import check_intrinsics
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.image import decode_image
from md2dist.data.shards.sample_info import parse_info
from md2dist.records import FrameBatch

RawSample = dict[str, Any]  # encoded members by name, and "__key__" and "__id__"
# t_x from the target on that side to the other camera.
_STEREO_SHIFT = {"l": -STEREO_BASELINE, "r": STEREO_BASELINE}


def collate_samples(
    dataset: ShardDataset,
    samples: Sequence[RawSample],
    views: Sequence[str],
    *,
    use_true_intrinsics: bool = False,
) -> FrameBatch:
    """Decodes samples directly into the tensors of their micro-batch.

    Args:
        dataset: source of the samples.
        samples: raw samples; an image may also be (H, W, 3) uint8 pixels.
        views: names of the target and the sources, for example "0", "-1", "+1", "s".
        use_true_intrinsics: calibrated K instead of the recipe's.

    Returns:
        The batch; in a worker process its frames are in memory shared with the training process.

    Raises:
        ShardError: if a sample is damaged, lacks a view, has one of another size, or its K is
            implausible and used.
    """
    recipe = dataset.manifest.recipe
    assert recipe.height is not None, "check_recipe refuses native sizes"
    assert recipe.width is not None
    size = recipe.height, recipe.width
    shape = (*size, 3)
    frames = torch.empty((len(samples), len(views), *shape), dtype=torch.uint8)
    if get_worker_info():
        frames.share_memory_()  # before filling: sharing afterwards would copy
    pixels = frames.numpy()
    K = np.tile(recipe_intrinsics(recipe.height, recipe.width), (len(samples), 1, 1))
    T_stereo = np.tile(np.eye(4, dtype=np.float32), (len(samples), 1, 1))
    for i, sample in enumerate(samples):
        try:
            for j, view in enumerate(views):
                image = sample[f"{view}.{recipe.image_format}"]
                if not isinstance(image, np.ndarray):
                    decode_image(image, size, pixels[i, j])
                elif image.shape == shape:
                    pixels[i, j] = image
                else:
                    raise ValueError(f"view {view} has shape {image.shape}, expected {shape}")
            info = parse_info(sample["json"])
            if "s" in views:
                T_stereo[i, 0, 3] = _STEREO_SHIFT[info["side"]]
            if use_true_intrinsics:
                native_size = info["native_height"], info["native_width"]
                for fault in check_intrinsics(info["K"], size, native_size):
                    raise ValueError(f"its K {fault}")
                K[i] = info["K"]
        except (KeyError, TypeError, ValueError) as error:
            raise dataset.damage(sample["__id__"], error) from None
    sample_id = torch.tensor([sample["__id__"] for sample in samples])
    batch = FrameBatch(frames, torch.from_numpy(K), torch.from_numpy(T_stereo), sample_id)
    if get_worker_info():
        for tensor in batch:  # here, where an error reaches the training process
            tensor.share_memory_()
    return batch


def recipe_intrinsics(height: int, width: int) -> np.ndarray:
    """Returns the camera matrix that the published recipe uses for every drive.

    Args:
        height: rows in pixels.
        width: columns in pixels.

    Returns:
        (3, 3) float32 in pixels, pixel centres at integers.

    Source: Godard et al., ICCV 2019: all views share one camera matrix.
    """
    fx, fy = FOCAL_LENGTHS[0] * width, FOCAL_LENGTHS[1] * height
    return np.array([[fx, 0, 0.5 * width], [0, fy, 0.5 * height], [0, 0, 1]], np.float32)
