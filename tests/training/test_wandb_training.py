"""A training with W&B offline: what its users find in the file of the run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.small_shards import write_small_shards
from helpers.wandb_files import history_of, records_of

from md2dist.data.shards.dataset import ShardDataset
from md2dist.training.start.record import make_data_card

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_training_logs_pictures_tables_checkpoints_and_its_origin_to_wandb(tmp_path):
    shards = write_small_shards(tmp_path / "s", 6, height=64, width=64, ground_truth="velodyne")
    run = tmp_path / "run"
    words = [
        *(f"data.train_shards={shards}", f"data.val_shards=[{shards}]", f"log.run_dir={run}"),
        *("data.height=64", "data.width=64", "data.num_workers=0", "network.weights=scratch"),
        *(
            "optim.micro_batch_size=2",
            "optim.max_steps=2",
            "log.every_steps=1",
            "log.pictures_every_steps=2",
        ),
        *("log.wandb_mode=offline", "log.wandb_artifacts=true", "log.wandb_worst=4"),
    ]
    variables = {name: value for name, value in os.environ.items() if name[:6] != "WANDB_"}
    done = subprocess.run(
        [sys.executable, "launch/train.py", *words],
        cwd=ROOT,
        env={**variables, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (run / "logs" / "wandb").glob("offline-run-*/run-*.wandb")
    records = records_of(path)

    rows = {row["step"]: row for row in history_of(records)}
    assert [row["step"] for row in history_of(records)] == [1, 2]
    assert all("perf/samples_per_second" in row for row in rows.values())
    assert rows[2]["train/panel/height"] == 5 * 64
    assert rows[2]["val/panel_0/width"] == 416
    assert rows[2]["val/worst/nrows"] == 4

    artifacts = [record.artifact for record in records if record.HasField("artifact")]
    (model,) = [artifact for artifact in artifacts if artifact.type == "model"]
    assert json.loads(model.metadata)["abs_rel"] == rows[2]["val/abs_rel"]
    assert set(model.aliases) == {"best", "latest"}
    folder = run / "checkpoints" / "step-00000002"
    assert {entry.ref for entry in model.manifest.contents} == {
        path.as_uri() for path in folder.iterdir()
    }
    (start,) = map(json.loads, (run / "starts.jsonl").read_text().splitlines())
    (config,) = [record.run.config for record in records if record.HasField("run")]
    origin = json.loads({item.key: item.value_json for item in config.update}["origin"])
    assert origin["versions"] == start["versions"]
    assert origin["train_shards"] == make_data_card(ShardDataset(shards))
