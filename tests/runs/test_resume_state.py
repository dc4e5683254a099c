import json
from dataclasses import replace

import pytest
from helpers.checkpoints import resume_state

from md2dist.runs.resume_state import GuardState, ResumeState


def test_a_state_round_trips_through_json():
    state = resume_state(7, guard=GuardState(1.0, 2.0, 1024.0), wandb_id="x", resolved={"ranks": 2})
    assert ResumeState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_a_state_of_an_earlier_version_has_no_scale_and_a_later_one_may_hold_more():
    values = resume_state(7).to_json()
    values["guard"] = {"num_clean_steps": 3.0, "num_skipped": 1.0}
    state = ResumeState.from_json({**values, "a_later_field": [1]})
    assert state.guard == GuardState(3.0, 1.0, None)
    del values["resolved"], values["wandb_id"]
    assert ResumeState.from_json(values).resolved == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": "7"}, "step is '7', expected a valid integer"),
        ({"seed": True}, "seed is True, expected a valid integer"),
        ({"wandb_id": 3}, "wandb_id is 3, expected a valid string"),
        ({"guard": {"num_skipped": None}}, "guard.num_skipped is None, expected a valid number"),
        ({"guard": {"scale": float("nan")}}, "guard.scale is nan, expected a finite number"),
        ({"world_size": 0}, "world_size is 0, expected greater than or equal to 1"),
        ({"step": 10**30}, "step is 10.*0, expected less than"),
        ({"guard": [1]}, "guard: expected an object"),
    ],
)
def test_a_value_of_another_type_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        ResumeState.from_json({**resume_state(7).to_json(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -1}, "step is -1, expected greater than or equal to 0"),
        ({"step": 10**30}, "step is 1000000000000000000000000000000, expected"),
        ({"global_batch_size": 0}, "global_batch_size is 0, expected greater than or equal to 1"),
        ({"world_size": 0}, "world_size is 0"),
        ({"zero_stage": 3}, "zero_stage is 3, expected less than or equal to 2"),
        ({"guard": {"scale": float("inf")}}, "guard.scale is inf"),
        ({"guard": {"num_skipped": float("nan")}}, "guard.num_skipped is nan"),
        ({"wandb_id": "../../x"}, "wandb_id is '../../x', string should match pattern"),
        ({"wandb_id": ""}, "wandb_id is ''"),
    ],
)
def test_a_value_out_of_range_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        ResumeState.from_json({**resume_state(7).to_json(), **change})


def test_a_missing_value_is_refused():
    values = resume_state(7).to_json()
    del values["shard_digest"]
    with pytest.raises(ValueError, match="shard_digest is missing"):
        ResumeState.from_json(values)


def test_differences_are_of_the_values_that_a_run_cannot_change():
    state = resume_state(7)
    assert state.differences(replace(state, step=9, world_size=4, wandb_id="x")) == {}
    assert state.differences(replace(state, seed=1, window_shards=2)) == {
        "seed": (0, 1),
        "window_shards": (16, 2),
    }
    partitioned = replace(state, zero_stage=1)
    assert partitioned.differences(replace(partitioned, world_size=4)) == {"world_size": (1, 4)}
