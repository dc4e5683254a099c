"""The run's folder, and the log files of its processes."""

import logging
from pathlib import Path

from md2dist.config import Config, save_config
from md2dist.errors import ConfigError
from md2dist.training.world import World


def open_run_dir(config: Config) -> None:
    """Makes the run's folder and writes the resolved settings to its `config.yaml`.

    With `checkpoint.resume=never` the folder of an earlier run is set aside under another name;
    nothing of it is lost.

    Raises:
        ConfigError: if `log.run_dir` cannot be written.
    """
    run_dir = Path(config.log.run_dir)
    try:
        if config.checkpoint.resume == "never" and (run_dir / "config.yaml").exists():
            run_dir.rename(_free_name(run_dir))
        run_dir.mkdir(parents=True, exist_ok=True)
        save_config(config, run_dir / "config.yaml")
    except OSError as error:
        raise ConfigError(f"log.run_dir={run_dir} cannot be written: {error.strerror}") from None


def start_logging(run_dir: str, world: World) -> None:
    """Sends this process's messages to `logs/rank-N.log`, the important ones to the terminal."""
    folder = Path(run_dir) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.INFO if world.is_main else logging.WARNING)
    logger = logging.getLogger("md2dist")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in (terminal, logging.FileHandler(folder / f"rank-{world.rank}.log")):
        handler.setFormatter(
            logging.Formatter(f"%(asctime)s rank {world.rank} %(levelname)s %(message)s")
        )
        logger.addHandler(handler)


def _free_name(run_dir: Path) -> Path:
    number = 1
    while (name := run_dir.with_name(f"{run_dir.name}.before-{number}")).exists():
        number += 1
    return name
