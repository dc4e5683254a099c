from dataclasses import replace

import pytest
from helpers.checkpoints import write_checkpoint
from helpers.small_shards import write_small_shards

from md2dist.config import load_config
from md2dist.data.shards.manifest import read_manifest, write_manifest
from md2dist.distributed.topology import Topology
from md2dist.errors import CheckpointError, ConfigError, ShardError
from md2dist.runs.checkpoint_folder import note_validation
from md2dist.runs.resume_state import ResumeState, ValidationState
from md2dist.training.setup import set_up_run

TWO_RANKS = Topology(world_size=2)


@pytest.fixture
def shards(tmp_path):
    return write_small_shards(tmp_path / "shards", 12, height=64, width=96)


def configure(tmp_path, shards, *words):
    fixed = [
        f"data.train_shards={shards}",
        f"log.run_dir={tmp_path / 'run'}",
        "data.height=64",
        "data.width=96",
        "data.use_stereo=true",
        "optim.micro_batch_size=2",
    ]
    return load_config([], [*fixed, *words])


def save_run(tmp_path, shards, **changes):
    """Writes a checkpoint of the configured run on two ranks."""
    config = configure(tmp_path, shards)
    state = replace(set_up_run(config, TWO_RANKS).state, **{"step": 4, **changes})
    return write_checkpoint(tmp_path / "run" / "checkpoints", state, config=config)


def test_the_ranks_of_a_node_share_the_check_of_the_shards(tmp_path, shards):
    (shards / "shard-000001.tar").unlink()
    set_up_run(configure(tmp_path, shards), Topology(0, 3, 0, 3))
    with pytest.raises(ShardError, match=r"1 of 1 shards .* first: shard-000001\.tar"):
        set_up_run(configure(tmp_path, shards), Topology(1, 3, 1, 3))


def test_the_cache_is_where_and_as_large_as_the_settings_say(tmp_path, shards):
    words = [f"data.cache_dir={tmp_path / 'cache'}", "data.cache_gb=0.5"]
    train_set = set_up_run(configure(tmp_path, shards, *words)).train_set
    assert train_set.cache_bytes == 500_000_000
    assert train_set[0].key
    assert (tmp_path / "cache").is_dir()
    pipe = [f"data.train_shards='pipe:cat {shards}/{{}}'", words[0], "data.cache_gb=1e-4"]
    with pytest.raises(ShardError, match=r"two windows of 16 shards .*data\.cache_gb=0\.0001"):
        set_up_run(configure(tmp_path, shards, *pipe))


def test_the_state_records_split_and_drives_of_the_training_shards(tmp_path, shards):
    write_manifest(replace(read_manifest(shards), drives=("a", "b")), shards)
    state = set_up_run(configure(tmp_path, shards)).state
    assert (state.train_split, state.train_drives) == ("small", ("a", "b"))
    assert ResumeState.from_json(state.to_json()) == state
    old = {k: v for k, v in state.to_json().items() if not k.startswith("train_")}
    assert ResumeState.from_json(old).train_drives == ()


def test_a_fresh_run_starts_at_zero_and_ends_with_its_epochs(tmp_path, shards):
    setup = set_up_run(configure(tmp_path, shards, "optim.num_epochs=5"), TWO_RANKS)
    assert setup.plan == (4, 2, 1)
    assert (setup.first_step, setup.last_step) == (0, 15)
    assert setup.checkpoint is None
    assert list(tmp_path.iterdir()) == [shards]  # nothing is written


def test_a_resumed_run_keeps_its_global_batch_on_another_number_of_ranks(tmp_path, shards):
    save_run(tmp_path, shards)
    for world_size, accumulation in ((1, 2), (2, 1)):
        setup = set_up_run(configure(tmp_path, shards), Topology(world_size=world_size))
        assert setup.plan == (4, 2, accumulation)
        assert setup.first_step == 4
        assert setup.state.resolved["optim.grad_accum_steps"] == accumulation


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["data.train_shards=null"], ["data.train_shards is not set", "md2dist pack"]),
        (["data.train_shards=nowhere"], ["nowhere", "md2dist pack"]),
        (["data.height=96"], ["64x96", "96x96", "--height 96"]),
        (
            ["data.frame_offsets=[-2,-1,1]"],
            ["[-2, -1, 1]", "set data.frame_offsets=[-1,1],", "--frame-offsets -2 -1 1"],
        ),
        (["optim.global_batch_size=5"], ["global batch of 5", "micro_batch_size=1"]),
        (["optim.micro_batch_size=13"], ["13", "12"]),
    ],
)
def test_what_does_not_fit_is_reported_with_the_remedy(tmp_path, shards, words, messages):
    with pytest.raises((ConfigError, ShardError)) as caught:
        set_up_run(configure(tmp_path, shards, *words))
    for message in messages:
        assert message in str(caught.value)


def test_a_missing_or_short_shard_is_found_before_the_first_step(tmp_path, shards):
    tar = sorted(shards.glob("*.tar"))[1]
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(ShardError, match=f"1 of 3 shards.*{tar.name}"):
        set_up_run(configure(tmp_path, shards))
    tar.unlink()
    with pytest.raises(ShardError, match=f"1 of 3 shards.*{tar.name}"):
        set_up_run(configure(tmp_path, shards))


def test_shards_without_the_stereo_view_are_refused(tmp_path):
    mono = write_small_shards(tmp_path / "mono", 12, height=64, width=96, use_stereo=False)
    with pytest.raises(ShardError, match="--stereo"):
        set_up_run(configure(tmp_path, mono))


@pytest.mark.parametrize("place", ["shards", "nowhere"])
def test_validation_shards_that_cannot_serve_name_the_command_for_those_that_can(
    tmp_path, shards, place
):
    words = r"eigen_zhou/val .*--ground-truth velodyne .*--height 64 --width 96"
    with pytest.raises(ShardError, match=words) as caught:
        set_up_run(configure(tmp_path, shards, f"data.val_shards={tmp_path / place}"))
    assert str(tmp_path / place) in str(caught.value)
    assert "/test" not in str(caught.value).replace(str(tmp_path), "")


def test_resume_must_find_a_checkpoint(tmp_path, shards):
    with pytest.raises(CheckpointError, match=r"resume=must.*resume=auto"):
        set_up_run(configure(tmp_path, shards, "checkpoint.resume=must"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed=1, now it is 0"),
        ({"window_shards": 3}, "window_shards=3"),
        ({"shard_digest": "another"}, "shard_digest=another"),
        ({"zero_stage": 2}, "zero_stage=2"),
    ],
)
def test_a_run_does_not_resume_in_another_order(tmp_path, shards, changes, message):
    save_run(tmp_path, shards, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        set_up_run(configure(tmp_path, shards), TWO_RANKS)
    assert "network.init_from" in str(caught.value)


def test_another_loss_is_refused_in_the_folder_of_a_run(tmp_path, shards):
    save_run(tmp_path, shards)
    assert set_up_run(configure(tmp_path, shards, "optim.lr=1e-5"), TWO_RANKS).first_step == 4
    with pytest.raises(CheckpointError, match=r"loss.use_ssim=True, .*another log.run_dir"):
        set_up_run(configure(tmp_path, shards, "loss.use_ssim=false"), TWO_RANKS)


def test_a_global_batch_other_than_the_checkpoints_is_refused(tmp_path, shards):
    save_run(tmp_path, shards)
    with pytest.raises(CheckpointError, match="global_batch_size=4, now it is 6"):
        set_up_run(configure(tmp_path, shards, "optim.global_batch_size=6"))


def test_a_partitioned_run_does_not_resume_with_other_ranks(tmp_path, shards):
    save_run(tmp_path, shards, zero_stage=1)
    with pytest.raises(CheckpointError, match="saved by 2 ranks"):
        set_up_run(configure(tmp_path, shards, "deepspeed.zero_stage=1"))


def test_a_validation_before_which_an_earlier_start_was_stopped_is_due(tmp_path, shards):
    val = write_small_shards(tmp_path / "val", 4, height=64, width=96, ground_truth="velodyne")
    words = [f"data.val_shards={val}", "optim.global_batch_size=6"]  # epochs of two steps
    checkpoint = save_run(tmp_path, shards, global_batch_size=6)
    assert set_up_run(configure(tmp_path, shards, *words)).needs_validation
    assert not set_up_run(configure(tmp_path, shards, *words[1:])).needs_validation
    assert not set_up_run(
        configure(tmp_path, shards, *words, "checkpoint.resume=never")
    ).needs_validation
    note_validation(checkpoint, {"abs_rel": 0.1})
    assert not set_up_run(configure(tmp_path, shards, *words)).needs_validation


def test_a_run_that_has_not_begun_owes_no_validation(tmp_path, shards):
    val = write_small_shards(tmp_path / "val", 4, height=64, width=96, ground_truth="velodyne")
    save_run(tmp_path, shards, step=0)
    assert not set_up_run(
        configure(tmp_path, shards, f"data.val_shards={val}"), TWO_RANKS
    ).needs_validation


def test_no_validation_is_due_in_mid_epoch(tmp_path, shards):
    val = write_small_shards(tmp_path / "val", 4, height=64, width=96, ground_truth="velodyne")
    save_run(tmp_path, shards)  # step 4 of epochs of three
    assert not set_up_run(
        configure(tmp_path, shards, f"data.val_shards={val}"), TWO_RANKS
    ).needs_validation
    ended = configure(tmp_path, shards, f"data.val_shards={val}", "optim.max_steps=4")
    assert set_up_run(ended, TWO_RANKS).needs_validation
    past = configure(tmp_path, shards, f"data.val_shards={val}", "optim.num_epochs=1")
    setup = set_up_run(past, TWO_RANKS)
    assert (setup.first_step, setup.last_step, setup.needs_validation) == (4, 3, True)


def test_a_validation_every_so_many_steps_is_due_in_mid_epoch(tmp_path, shards):
    val = write_small_shards(tmp_path / "val", 4, height=64, width=96, ground_truth="velodyne")
    save_run(tmp_path, shards)  # step 4 of epochs of three
    for every, is_due in (("4", True), ("2", True), ("5", False), ("null", False)):
        words = [f"data.val_shards={val}", f"checkpoint.validate_every_steps={every}"]
        setup = set_up_run(configure(tmp_path, shards, *words), TWO_RANKS)
        assert setup.needs_validation == is_due, every


def test_a_run_that_early_stopping_has_ended_does_not_continue(tmp_path, shards):
    val = write_small_shards(tmp_path / "val", 4, height=64, width=96, ground_truth="velodyne")
    words = [f"data.val_shards={val}", "checkpoint.patience=2"]
    origin = read_manifest(val).digest
    checkpoint = save_run(tmp_path, shards, validations=ValidationState(origin, 3, 0.2, 2, 1))
    assert set_up_run(configure(tmp_path, shards, *words), TWO_RANKS).last_step == 60
    note_validation(checkpoint, {"abs_rel": 0.3})
    setup = set_up_run(configure(tmp_path, shards, *words), TWO_RANKS)
    assert (setup.first_step, setup.last_step) == (4, 4)
    reason = "no better abs_rel than 0.2000 of step 2 in 2 validations (checkpoint.patience=2)"
    assert setup.early_end == reason
    for patience in ("3", "null"):
        config = configure(tmp_path, shards, words[0], f"checkpoint.patience={patience}")
        assert set_up_run(config, TWO_RANKS).last_step == 60
    flipped = configure(tmp_path, shards, *words, "checkpoint.use_flip_postprocess=true")
    assert set_up_run(flipped, TWO_RANKS).last_step == 60  # counts anew


def test_resume_never_ignores_checkpoints(tmp_path, shards):
    save_run(tmp_path, shards, seed=1)
    setup = set_up_run(configure(tmp_path, shards, "checkpoint.resume=never"))
    assert setup.first_step == 0
