"""Export to safetensors: all networks in one file, under our names, with the model's settings."""

from pathlib import Path

from md2dist.model import MonodepthModel
from md2dist.storage.results import write_result
from md2dist.weights.extras import package_version, require_libraries
from md2dist.weights.layout import ENCODER, networks_of
from md2dist.weights.published import check_finite, describe_missing_heads

LIBRARIES = ("safetensors",)


def export_safetensors(model: MonodepthModel, path: Path) -> None:
    """Writes the weights and, as texts in the header, the settings that readers need.

    The header holds height, width, use_stereo, min_depth and max_depth (m), network_encoder, and
    version, that of md2dist. `load_model` reads the file.

    Args:
        model: a pose network other than the separate one is omitted, see
            `describe_safetensors_omissions`.
        path: the file; an existing one is replaced.

    Raises:
        WeightsError: if the library is missing, or a weight is not finite.
        ImageError: if the file cannot be written.
    """
    require_libraries(*LIBRARIES)
    from safetensors.torch import save  # pyright: ignore[reportMissingImports]

    check_finite(model)
    networks = {*networks_of(model), "mask"}
    tensors = {
        name: tensor.cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if name.partition(".")[0] in networks
    }
    content = save(tensors, describe_settings(model))
    write_result(path, lambda file: file.write(content))


def describe_settings(model: MonodepthModel) -> dict[str, str]:
    """Returns the settings of a model that the readers of its weights need, as texts."""
    loss = model.loss_config
    return {
        "height": str(model.height),
        "width": str(model.width),
        "use_stereo": str(bool(model.use_stereo)),
        "min_depth": repr(float(loss.min_depth)),
        "max_depth": repr(float(loss.max_depth)),
        ENCODER: model.network_config.encoder,
        "version": package_version(),
    }


def describe_safetensors_omissions(model: MonodepthModel) -> list[str]:
    """Lists, as sentences, what the file of a model omits, or what no reader of ours takes."""
    messages = describe_missing_heads(model)
    if model.loss_config.use_predictive_mask:
        messages.append("The predictive mask is in the file, but md2dist does not read it.")
    if model.frame_offsets and model.network_config.pose_type != "separate_resnet":
        messages.append("The pose network is omitted: readers expect the separate one.")
    return messages
