"""Record of a start of a run: position, ranks, versions and shards, for reports of the run."""

import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from md2dist.config import Config
from md2dist.data.inspection.data_card import describe_manifest
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.devices import describe_devices
from md2dist.distributed.world import World
from md2dist.runs.start_log import Start, list_versions
from md2dist.runs.status_file import find_status
from md2dist.storage.addresses import public_address
from md2dist.training.setup import RunSetup


def describe_start(command: Sequence[str], config: Config, setup: RunSetup, world: World) -> Start:
    """Describes this start of a run for its folder, before any of its status is written."""
    return Start(
        time=round(time.time(), 3),
        first_step=setup.first_step,
        last_step=setup.last_step,
        steps_per_epoch=setup.order.num_steps,
        global_batch_size=setup.plan.global_batch_size,
        num_ranks=world.world_size,
        node_size=world.node_size,
        host=socket.gethostname(),
        devices=describe_devices(world),
        folder=str(Path.cwd()),
        command=[word for word in command if not re.match("--local[_-]rank", word)],
        versions=list_versions(),
        train_shards=make_data_card(setup.train_set),
        val_shards=make_data_card(setup.val_sets[0].dataset) if setup.val_sets else {},
        before=find_status(Path(config.log.run_dir)),
    )


def make_data_card(shards: ShardDataset) -> dict[str, str]:
    """Returns the rows of a data-set card for which no sample is read."""
    manifest = shards.manifest
    size = f"{manifest.recipe.height} x {manifest.recipe.width}"
    return {
        "folder": public_address(str(shards.folder)),
        **describe_manifest(manifest),
        "size": "native" if manifest.recipe.height is None else size,
        "drives": f"{len(manifest.drives):,}" if manifest.drives else "not listed",
        "sha256 of index.json": manifest.digest,
    }
