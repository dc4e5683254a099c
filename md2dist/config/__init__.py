"""Settings: their schema, and `load_config`, which fills it."""

from md2dist.config.loading import (
    dump_config,
    load_config,
    load_words,
    public_settings,
    save_config,
)
from md2dist.config.schema import (
    SMALLEST_SIZE,
    CheckpointConfig,
    Config,
    DataConfig,
    LogConfig,
    LossConfig,
    NetworkConfig,
    OptimConfig,
)

__all__ = [
    "SMALLEST_SIZE",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "LogConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimConfig",
    "dump_config",
    "load_config",
    "load_words",
    "public_settings",
    "save_config",
]
