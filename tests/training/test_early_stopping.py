from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from md2dist.runs.resume_state import ValidationState
from md2dist.training.validation.patience import count_validation, describe_stop
from md2dist.training.validation.sets import name_sets

NOTHING = ValidationState()


def count(scores, state=NOTHING):
    for step, score in enumerate(scores, start=state.step + 1):
        state = count_validation(state, step, score)
    return state


@given(st.lists(st.floats(0, 2) | st.sampled_from([nan, inf]), max_size=12), st.integers(0, 12))
def test_the_count_is_that_of_all_scores_wherever_the_run_was_resumed(scores, cut):
    state = count(scores[cut:], count(scores[:cut]))
    finite = [score for score in scores if score < inf]
    if finite:
        first = scores.index(min(finite))
        assert (state.best, state.best_step) == (scores[first], first + 1)
        assert state.num_since == len(scores) - 1 - first
    else:
        assert (state.best, state.num_since) == (None, len(scores))


def test_a_validation_that_is_repeated_counts_once():
    state = count([0.3, 0.2, 0.25])
    assert count_validation(state, 3, 0.1) == state


@pytest.mark.parametrize(("scores", "is_over"), [([0.3, 0.3], False), ([0.2, 0.3, 0.2], True)])
def test_a_run_ends_after_so_many_validations_without_a_new_best(scores, is_over):
    state = count(scores)
    assert bool(describe_stop(state, 2)) == is_over
    assert describe_stop(state, None) == ""


def test_the_reason_names_the_best_and_the_setting():
    assert describe_stop(count([0.2, 0.3]), 1) == (
        "no better abs_rel than 0.2000 of step 1 in 1 validations (checkpoint.patience=1)"
    )
    assert "no better abs_rel of any in 2" in describe_stop(count([nan, nan]), 2)


def test_sets_are_named_after_their_folders_without_secrets():
    folders = ["shards/val", "/other/val/", "s3://bucket/near?key=SECRET", "pipe:cat far/{}"]
    assert name_sets(folders) == ["val", "val-2", "near", "far"]
