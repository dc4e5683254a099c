import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from md2dist.config import OptimConfig
from md2dist.errors import ConfigError
from md2dist.training.batch_plan import plan_batches

sizes = st.integers(1, 12)


@given(micro=sizes, accum=sizes, ranks=sizes)
def test_a_global_batch_leads_back_to_the_accumulation_that_makes_it(micro, accum, ranks):
    forwards = plan_batches(OptimConfig(micro_batch_size=micro, grad_accum_steps=accum), ranks)
    total = forwards.global_batch_size
    backwards = plan_batches(OptimConfig(micro_batch_size=micro, global_batch_size=total), ranks)
    assert forwards == backwards == (micro * accum * ranks, micro, accum)


@given(micro=sizes, total=st.integers(1, 60), ranks=sizes)
def test_every_plan_multiplies_to_the_global_batch_or_its_remedy_does(micro, total, ranks):
    def plan(micro_batch_size):
        optim = OptimConfig(micro_batch_size=micro_batch_size, global_batch_size=total)
        return plan_batches(optim, ranks)

    if total % (micro * ranks) == 0:
        found = plan(micro)
    else:
        with pytest.raises(ConfigError) as caught:
            plan(micro)
        if total % ranks:
            counts = json.loads(str(caught.value).partition("ranks among ")[2])
            assert counts == [other for other in range(1, 61) if total % other == 0]
            assert f"multiple of {ranks};" in str(caught.value)
            return
        found = plan(int(str(caught.value).rpartition("micro_batch_size=")[2]))
    assert found.micro_batch_size * found.grad_accum_steps * ranks == total
    assert found.micro_batch_size <= micro


def test_contradicting_sizes_are_refused_with_the_fitting_one():
    optim = OptimConfig(micro_batch_size=2, grad_accum_steps=3, global_batch_size=8)
    with pytest.raises(ConfigError, match=r"grad_accum_steps=3.*or set 2"):
        plan_batches(optim, 2)
