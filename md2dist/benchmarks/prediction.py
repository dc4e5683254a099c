"""Benchmark of prediction and evaluation against their network alone, through the code of both."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from md2dist.benchmarks.steps import check_repeats, describe_machine
from md2dist.config import Config
from md2dist.conventions import default_scaling
from md2dist.data.shards.compatibility import check_recipe
from md2dist.data.shards.dataset import ShardDataset
from md2dist.evaluation.depth import evaluate_depth
from md2dist.evaluation.protocols import choose_protocol
from md2dist.model import MonodepthModel
from md2dist.networks.precision import name_dtype
from md2dist.prediction.predictor import frames_predictor, predict_files
from md2dist.prediction.result_files import PredictionOptions


class _Work(NamedTuple):
    """A task that is timed."""

    run: Callable[[], object]
    num_images: int


class _Seconds(NamedTuple):
    """Time per image."""

    wall: float
    cpu: float


def bench_predict(
    config: Config,
    images: Sequence[Path],
    shards: Path | None,
    batch_size: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Times the network alone, prediction of files, and evaluation of shards, in turn.

    Args:
        config: size, network and precision; the weights are random, and no shards of it are read.
        images: image files.
        shards: folder with ground truth, at the model's size; None: there is no evaluation.
        batch_size: images per forward pass of each.
        repeats: number of timed runs of each, after one of the network that is not.

    Returns:
        For each: images per second, medians of the ratio of the network's time to its own, of wall
        clock and of the CPU time of all threads, and the conditions of the measurement.

    Raises:
        Md2distError: if the settings, the images or the shards are invalid.
    """
    check_repeats(repeats)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = MonodepthModel.from_config(config).eval().to(device)
    with tempfile.TemporaryDirectory() as folder:
        works = _list_works(model, images, shards, batch_size, Path(folder))
        model.predict_frames(_random_frames(model, batch_size))
        rounds = [
            {name: _time(work, device) for name, work in works.items()} for _ in range(repeats)
        ]
    rows = []
    for name, work in works.items():
        pairs = [(times["network alone"], times[name]) for times in rounds]
        rows.append(
            {
                "benchmark": "predict",
                "work": name,
                "images_per_second": 1 / statistics.median(own.wall for _, own in pairs),
                "ratio": statistics.median(net.wall / own.wall for net, own in pairs),
                "ratio_of_cpu_time": statistics.median(net.cpu / own.cpu for net, own in pairs),
                "images": work.num_images,
                "batch_size": batch_size,
                "size": f"{model.width}x{model.height}",
                "precision": name_dtype(model.dtype),
                **describe_machine(),
            }
        )
    return rows


def _list_works(
    model: MonodepthModel,
    images: Sequence[Path],
    shards: Path | None,
    batch_size: int,
    folder: Path,
) -> dict[str, _Work]:
    def predict(*, with_pictures: bool) -> None:
        options = PredictionOptions(with_pictures=with_pictures)
        list(predict_files(model, images, folder, options=options, batch_size=batch_size))

    num_images = len(images)
    sizes = [min(batch_size, num_images - n) for n in range(0, num_images, batch_size)]
    batches = [_random_frames(model, size) for size in sizes]
    works = {
        "network alone": _Work(lambda: [model.predict_frames(x) for x in batches], num_images),
        "predict": _Work(lambda: predict(with_pictures=True), num_images),
        "predict --no-pictures": _Work(lambda: predict(with_pictures=False), num_images),
    }
    if shards is not None:
        dataset = ShardDataset(shards)
        check_recipe(
            dataset.manifest,
            dataset.folder,
            height=model.height,
            width=model.width,
            frame_offsets=(),
            use_stereo=False,
        )
        protocol = choose_protocol(dataset.manifest.recipe, dataset.folder)
        works["evaluate"] = _Work(
            lambda: evaluate_depth(
                frames_predictor(model),
                dataset,
                protocol=protocol,
                scaling=default_scaling(model.use_stereo),
                batch_size=batch_size,
            ),
            len(dataset),
        )
    return works


def _random_frames(model: MonodepthModel, batch_size: int) -> torch.Tensor:
    """Returns frames (B, H, W, 3) uint8 on the model's device."""
    device = next(model.parameters()).device
    shape = (batch_size, model.height, model.width, 3)
    return torch.randint(256, shape, dtype=torch.uint8, device=device)


def _time(work: _Work, device: torch.device) -> _Seconds:
    """Times a task per image, until the device is done."""
    start = time.perf_counter(), time.process_time()
    work.run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    return _Seconds(wall / work.num_images, cpu / work.num_images)
