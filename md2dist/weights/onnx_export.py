"""Export of the depth network to ONNX, compared with torch before the file gets its name."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import nn

from md2dist.conventions import STEREO_FACTOR
from md2dist.errors import WeightsError
from md2dist.geometry.disparity import scale_disparity
from md2dist.model import MonodepthModel
from md2dist.storage.results import write_result
from md2dist.weights.extras import package_version, require_libraries
from md2dist.weights.published import check_finite
from md2dist.weights.safetensors_export import describe_settings

LIBRARIES = ("onnx", "onnxruntime", "onnxscript")  # torch's exporter needs the last
OPSET = 18
BATCHES = (1, 2)  # images of the batches that are compared
LARGEST_DIFFERENCE = 1e-4  # 1/m
_INPUT, _OUTPUT = "images", "scaled_disparity"


def export_onnx(model: MonodepthModel, path: Path) -> float:
    """Writes the depth network: images (B, 3, H, W) in [0, 1] to scaled disparity (B, 1, H, W).

    B is free, the type is float32, the unit of the output 1/m. The metadata are those of
    `describe_settings`, and scale: the factor from inverse disparity to metres, 5.4 for a model
    trained with stereo, 1 for a monocular one, whose depth has no scale.

    Args:
        model: in eval mode, in float32 on the CPU.
        path: the file; an existing one is replaced.

    Returns:
        Largest difference in 1/m between ONNX Runtime and torch on random images.

    Raises:
        WeightsError: if a library is missing, a weight is not finite, or the difference exceeds
            `LARGEST_DIFFERENCE`: nothing is written.
        ImageError: if the file cannot be written.
    """
    require_libraries(*LIBRARIES)
    check_finite(model)
    content = _convert(model)
    difference = compare(model, content)
    if not difference <= LARGEST_DIFFERENCE:  # NaN, too
        raise WeightsError(
            f"{path} is not written: ONNX Runtime and torch differ by {difference:.2g} 1/m, more "
            f"than {LARGEST_DIFFERENCE:g}; use other versions of onnxruntime and onnxscript, or "
            "other weights"
        )
    write_result(path, lambda file: file.write(content))
    return difference


def compare(model: MonodepthModel, content: bytes) -> float:
    """Returns the largest difference in 1/m between an ONNX file and its model.

    Args:
        model: in eval mode, in float32 on the CPU.
        content: the file.
    """
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    differences = []
    for num_images in BATCHES:
        images = torch.rand(num_images, 3, model.height, model.width, generator=generator)
        [output] = session.run([_OUTPUT], {_INPUT: images.numpy()})
        expected = model.predict_scaled_disparity(images)
        differences.append((torch.from_numpy(output) - expected).abs().max())
    return torch.stack(differences).max().item()


class _ScaledDisparity(nn.Module):
    """The depth network alone, without autocast; see `MonodepthModel.predict_scaled_disparity`."""

    def __init__(self, model: MonodepthModel):
        super().__init__()
        self.encoder, self.depth = model.encoder, model.depth
        self.min_depth = model.loss_config.min_depth
        self.max_depth = model.loss_config.max_depth

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps (B, 3, H, W) in [0, 1] to scaled disparity (B, 1, H, W) in 1/m."""
        disparity = self.depth(self.encoder(images))[0]
        return scale_disparity(disparity, self.min_depth, self.max_depth)


def _convert(model: MonodepthModel) -> bytes:
    """Returns the content of the ONNX file."""
    import onnx  # pyright: ignore[reportMissingImports]

    images = torch.zeros(2, 3, model.height, model.width)  # of one, torch would fix the batch
    with _quiet():
        program: Any = torch.onnx.export(
            _ScaledDisparity(model).eval(),
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    proto = program.model_proto
    _drop_stack_traces(proto.graph)
    settings = describe_settings(model)
    settings["scale"] = repr(STEREO_FACTOR if model.use_stereo else 1.0)
    onnx.helper.set_model_props(proto, settings)
    proto.producer_name, proto.producer_version = "md2dist", package_version()
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def _drop_stack_traces(graph: Any) -> None:
    """Removes torch's notes on each operation, which name the folders of this machine."""
    parts = (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph)
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's warnings, such as those on operations of torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with catch_warnings():
            simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
