"""Training data of a model, as recorded in its checkpoint."""

from pathlib import Path

from md2dist.config import load_config
from md2dist.data.shards.manifest import read_manifest as read_shards
from md2dist.errors import ConfigError, ShardError
from md2dist.evaluation.training_overlap import TrainingData
from md2dist.runs.checkpoint_manifest import read_manifest
from md2dist.runs.checkpoint_names import CONFIG_NAME
from md2dist.storage.open_store import is_url
from md2dist.weights.published_source import is_published


def find_training_data(folder: Path) -> TrainingData:
    """Finds out on which split and drives a model was trained.

    Checkpoints of earlier versions do not record it; there, the training shards are consulted if
    they are still in their local folder, unchanged.

    Args:
        folder: the checkpoint, or published weights, as `find_model` returns it.

    Returns:
        Split and drives; empty where unknown, as for published weights.

    Raises:
        CheckpointError: if the manifest of the checkpoint is damaged.
    """
    if is_published(folder):
        return TrainingData()
    facts = read_manifest(folder).facts
    if facts.train_split:
        return TrainingData(facts.train_split, facts.train_drives)
    try:
        shards = load_config([folder / CONFIG_NAME]).data.train_shards
        if shards is None or is_url(shards):
            return TrainingData()
        manifest = read_shards(shards)
    except (ConfigError, ShardError):
        return TrainingData()
    if manifest.digest != facts.shard_digest:
        return TrainingData()
    return TrainingData(manifest.recipe.split, manifest.drives)
