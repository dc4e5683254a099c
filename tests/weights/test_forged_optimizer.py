"""A forged state of the optimizer executes nothing, and no run resumes from it."""

import logging
import re

import pytest
import torch
from helpers.checkpoints import adam_state, partition, resume_state, write_checkpoint

from md2dist.config import load_config
from md2dist.runs.checkpoint_manifest import write_manifest
from md2dist.runs.checkpoint_names import STATES_NAME
from md2dist.training.resume_check import find_resumable
from md2dist.weights.optimizer_state import partition_name, read_partition

NUM_RANKS = 2
THREE = torch.ones(3)
SHAPE, SIZE = (2, 3, 3, 3), 54
STAGES = {0: SHAPE, 1: (SIZE // NUM_RANKS,)}


class Code:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class Tensor:
    """Rebuilt as a tensor of any shape, strides and offset in a storage of four numbers."""

    def __init__(self, *place):
        self.place = place

    def __reduce__(self):
        offset, shape, strides = self.place
        storage = torch.zeros(4).untyped_storage()
        typed = torch.storage.TypedStorage(
            wrap_storage=storage, dtype=torch.float32, _internal=True
        )
        rebuild = torch._utils._rebuild_tensor_v2
        return rebuild, (typed, offset, shape, strides, False, {})


FORGERIES = {  # of the first moment, given the shape of its parameter
    "code": (lambda shape, path: Code(path), "refers to io.open, which could run code"),
    "a single number": (lambda shape, path: torch.zeros(1), r"exp_avg .* is float32 \(1,"),
    "strides of zero": (
        lambda shape, path: torch.zeros(1).expand(shape),
        "exp_avg of parameter 0 is not dense float32",
    ),
    "a short storage": (lambda shape, path: Tensor(0, shape, (1,) * len(shape)), "is damaged"),
    "a negative stride": (lambda shape, path: Tensor(0, shape, (-1,) * len(shape)), "is damaged"),
    "a negative offset": (lambda shape, path: Tensor(-8, shape, (0,) * len(shape)), "is damaged"),
    "a huge stride": (lambda shape, path: Tensor(0, shape, (2**61,) * len(shape)), "is damaged"),
    "half numbers": (lambda shape, path: torch.zeros(shape).half(), "is float16"),
    "a sparse tensor": (lambda shape, path: torch.zeros(shape).to_sparse(), "is not dense"),
    "no tensor": (lambda shape, path: 7, "exp_avg of parameter 0 is int, expected dense float32"),
    "a NaN": (lambda shape, path: torch.full(shape, torch.nan), "optimizer has NaN"),
}  # fmt: skip
CHANGES = {  # of the state of Adam
    "no state": (lambda state: state.clear(), "has no state of the optimizer"),
    "another number": (lambda state: state["state"].update({7: {}}), "states of parameter 7"),
    "a name": (lambda state: state["state"].update({"0": {}}), "optimizer states of parameter 0"),
    "no moments": (lambda state: state["state"][0].pop("exp_avg_sq"), "is not step, exp_avg"),
    "many steps": (lambda state: state["state"][0].update(step=THREE), "step of parameter"),
}  # fmt: skip


@pytest.fixture(params=STAGES)
def run(request, tmp_path):
    """A run at a stage of ZeRO, with two checkpoints of one weight; the stage, and a function.

    The function changes the later checkpoint: it gets the state of Adam.
    """
    module = {"conv": torch.ones(SHAPE), "mean": torch.ones(2)}
    for step in (4, 8):
        state = resume_state(step, zero_stage=request.param, world_size=NUM_RANKS)
        folder = write_checkpoint(tmp_path / "checkpoints", state, module)
        write_states(folder, state, adam_state(SHAPE), partition(1, NUM_RANKS, SIZE))

    def change(edit):
        adam, part = adam_state(SHAPE), partition(1, NUM_RANKS, SIZE)
        in_part = part["optimizer_state_dict"]["base_optimizer_state"]
        edit(in_part if request.param else adam)
        write_states(folder, state, adam, part)

    assert find_step(tmp_path) == 8
    return request.param, tmp_path, change


def write_states(folder, state, adam, last_part):
    states = torch.load(folder / STATES_NAME) | {"buffer_names": ["mean"]}
    if state.zero_stage:
        adam = None
        torch.save(partition(0, NUM_RANKS, SIZE), folder / partition_name(0))
        torch.save(last_part, folder / partition_name(1))
    torch.save(states | {"optimizer": adam}, folder / STATES_NAME)
    write_manifest(folder, state)


def find_step(folder):
    return find_resumable(load_config([], [f"log.run_dir={folder}"])).state.step


def check_fallback(folder, words, caplog):
    with caplog.at_level(logging.WARNING, logger="md2dist"):
        assert find_step(folder) == 4
    assert re.search(rf"{words}.*falling back to the previous checkpoint", caplog.text)
    assert "weights_only" not in caplog.text


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_run_resumes_before_a_checkpoint_with_a_forged_moment(run, forgery, caplog):
    stage, folder, change = run
    make, words = FORGERIES[forgery]
    trace = folder / "executed"
    change(lambda adam: adam["state"][0].update(exp_avg=make(STAGES[stage], trace)))
    check_fallback(folder, words, caplog)
    assert not trace.exists()


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_resumes_before_a_checkpoint_with_another_state_of_adam(run, name, caplog):
    _, folder, change = run
    edit, words = CHANGES[name]
    change(edit)
    check_fallback(folder, words, caplog)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda part: part.update(group_paddings=[1]), r"exp_avg .*expected dense float32 \(28"),
        (lambda part: part.update(group_paddings=[-1]), "no finite float32 weights of one group"),
        (lambda part: part.update(group_paddings=[]), "no finite float32 weights of one group"),
        (
            lambda part: part.update(single_partition_of_fp32_groups=[THREE * torch.nan]),
            "no finite float32 weights of one group",
        ),
        (
            lambda part: part.update(
                single_partition_of_fp32_groups=[THREE], base_optimizer_state=adam_state((3,))
            ),
            "are not equal parts of 54 weights",
        ),
        (lambda part: part.clear(), "no finite float32 weights of one group"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("run", [1], indirect=True)
def test_a_run_resumes_before_a_checkpoint_whose_parts_do_not_fit(run, edit, words, caplog):
    folder = run[1] / "checkpoints" / "step-00000008"
    part = partition(1, NUM_RANKS, SIZE)
    edit(part["optimizer_state_dict"])
    state = resume_state(8, zero_stage=1, world_size=NUM_RANKS)
    write_states(folder, state, adam_state(SHAPE), part)
    check_fallback(run[1], words, caplog)


def test_weights_that_have_not_been_updated_have_no_moments(run):
    _, folder, change = run
    change(lambda adam: adam["state"].clear())
    assert find_step(folder) == 8


class PickledByName:
    """Pickled as Python 3.11.0 to 3.11.3 pickles a member of an enumeration."""

    def __init__(self, holder, name):
        self.holder, self.name = holder, name

    def __reduce__(self):
        return getattr, (self.holder, self.name)


def test_enumerations_of_deepspeed_are_read_as_every_python_pickles_them(tmp_path):
    from deepspeed.runtime.zero.config import ZeroStageEnum

    content = partition(0, 1, SIZE)
    for stage in (ZeroStageEnum.gradients, PickledByName(ZeroStageEnum, "gradients")):
        content["optimizer_state_dict"]["zero_stage"] = stage
        torch.save(content, tmp_path / partition_name(0))
        assert read_partition(tmp_path, 0).weights.shape == (SIZE,)
