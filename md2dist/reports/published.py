"""Comparison of a run with the published experiment that is most like it."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from md2dist.config import Config, load_config, public_settings
from md2dist.config_merge import flatten, packaged_file
from md2dist.published_figures import FIGURES, METRICS

# Settings of the machine and of the files, which differ without making another experiment.
_OWN = (
    *("log.", "checkpoint.", "deepspeed.", "seed", "precision.initial_loss_scale"),
    *("data.train_shards", "data.val_shards", "data.num_workers", "data.window_shards"),
    *("data.prefetch_batches", "data.cache_dir", "data.cache_gb"),
    *("optim.micro_batch_size", "optim.grad_accum_steps"),
)
_PUBLISHED_TYPE = {"precision.dtype": "fp32"}


class Difference(NamedTuple):
    """A setting with another value than the published one."""

    key: str
    own: str
    published: str


class Published(NamedTuple):
    """A published experiment."""

    name: str
    figures: dict[str, float]  # by metric
    differences: list[Difference]  # of the run, in the order of the schema


def find_published(config: Config, settings: dict[str, Any]) -> Published | None:
    """Finds the experiment with figures, of the same mode, whose settings differ least.

    Args:
        config: the settings of a run.
        settings: the same by dotted keys, resolved.

    Returns:
        The experiment; None if there is none for these views.
    """
    candidates = []
    for name, figures in FIGURES.items():
        if figures is not None and name.startswith(f"{name_mode(config)}_"):
            differences = compare_settings(settings, _settings_of(name))
            candidates.append(
                Published(name, dict(zip(METRICS, figures, strict=True)), differences)
            )
    is_stereo_too = name_mode(config) == "mono_stereo"
    candidates = [c for c in candidates if c.name.startswith("mono_stereo_") == is_stereo_too]
    return min(candidates, key=lambda other: len(other.differences), default=None)


def name_mode(config: Config) -> str:
    """Returns the mode of training: mono, stereo or mono_stereo."""
    if not config.data.frame_offsets:
        return "stereo"
    return "mono_stereo" if config.data.use_stereo else "mono"


def compare_settings(settings: dict[str, Any], published: dict[str, Any]) -> list[Difference]:
    """Lists the settings that make another experiment."""
    return [
        Difference(key, format_setting(settings[key]), format_setting(value))
        for key, value in published.items()
        if key in settings
        and not key.startswith(_OWN)
        and format_setting(settings[key]) != format_setting(value)
    ]


def format_setting(value: Any) -> str:
    """Returns a value as YAML and the command line write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_setting, value))}]"
    return str(value)


@cache
def _settings_of(name: str) -> dict[str, Any]:
    # The packaged file: the working directory may hold a changed one of that name.
    path = packaged_file(Path("configs", "experiments", f"{name}.yaml"))
    config = load_config([str(path)])
    return flatten(public_settings(config)) | _PUBLISHED_TYPE
