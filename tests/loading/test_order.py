import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from md2dist.data.loading.order import GlobalOrder
from md2dist.errors import ConfigError


@st.composite
def orders(draw: st.DrawFn, batch_unit: int = 1) -> GlobalOrder:
    sizes = draw(
        st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda s: sum(s) >= batch_unit)
    )
    return GlobalOrder(
        sizes,
        seed=draw(st.integers(0, 2**40)),
        global_batch_size=batch_unit * draw(st.integers(1, sum(sizes) // batch_unit)),
        window_shards=draw(st.integers(1, 14)),
    )


def epoch_ids(order: GlobalOrder, epoch: int) -> np.ndarray:
    return np.concatenate([order.step_ids(epoch, step) for step in range(order.num_steps)])


@given(orders(), st.integers(0, 5))
def test_an_epoch_holds_each_sample_at_most_once_and_drops_only_the_remainder(order, epoch):
    ids = epoch_ids(order, epoch)
    assert len(ids) == len(set(ids.tolist())) == order.num_samples - order.num_dropped
    assert 0 <= ids.min() <= ids.max() < order.num_samples
    assert order.num_dropped < order.global_batch_size


@given(orders(), st.integers(0, 5))
def test_samples_of_a_window_lie_together(order, epoch):
    # Independent of how the positions are computed: cut the epoch where the shards change window.
    shard_of = np.repeat(np.arange(len(order._sizes)), order._sizes)
    shards = shard_of[epoch_ids(order, epoch)]
    met: list[set[int]] = [set()]
    for shard in shards:
        if not any(shard in window for window in met):
            if len(met[-1]) == order._window_shards:
                met.append(set())
            met[-1].add(int(shard))
    empty = int((order._sizes == 0).sum())
    if not empty:  # empty shards take up places in a window but cannot be met
        places = [next(i for i, window in enumerate(met) if s in window) for s in shards]
        assert places == sorted(places)


@pytest.mark.parametrize(("world_size", "num_accum"), [(1, 1), (1, 4), (2, 2), (4, 1)])
@given(order=orders(batch_unit=4), epoch=st.integers(0, 3))
@settings(max_examples=50)
def test_ranks_and_accumulation_steps_together_take_the_step_in_order(
    world_size, num_accum, order, epoch
):
    for step in range(order.num_steps):
        parts = [
            order.rank_ids(epoch, step, rank, world_size, accum_index, num_accum)
            for accum_index in range(num_accum)
            for rank in range(world_size)
        ]
        assert {len(part) for part in parts} == {order.global_batch_size // len(parts)}
        np.testing.assert_array_equal(np.concatenate(parts), order.step_ids(epoch, step))


def test_the_order_is_the_one_it_has_always_been():
    # Stored values: interrupted runs resume in this order, so it must never change.
    order = GlobalOrder([3, 4, 2, 5], seed=7, global_batch_size=5, window_shards=2)
    assert epoch_ids(order, 0).tolist() == [6, 4, 7, 8, 3, 5, 9, 2, 1, 11]
    assert epoch_ids(order, 1).tolist() == [9, 6, 11, 13, 4, 3, 12, 5, 10, 7]


def test_epochs_and_seeds_differ():
    def ids(seed: int, epoch: int) -> list[int]:
        order = GlobalOrder([10] * 10, seed=seed, global_batch_size=7, window_shards=3)
        return epoch_ids(order, epoch).tolist()

    assert len({tuple(ids(seed, epoch)) for seed in range(5) for epoch in range(5)}) == 25


def test_each_epoch_drops_other_samples():
    order = GlobalOrder([8] * 8, seed=0, global_batch_size=60, window_shards=2)
    dropped = {frozenset(set(range(64)) - set(epoch_ids(order, e).tolist())) for e in range(8)}
    assert all(len(samples) == order.num_dropped == 4 for samples in dropped)
    assert len(dropped) == 8


def test_shuffling_spreads_every_sample_over_its_window():
    # One window: the place of a sample is uniform over the epoch, mean 49.5 with deviation 28.9.
    order = GlobalOrder([10] * 10, seed=3, global_batch_size=1, window_shards=10)
    places = np.stack([np.argsort(epoch_ids(order, epoch)) for epoch in range(200)])
    assert np.abs(places.mean(axis=0) - 49.5).max() < 4 * 28.9 / np.sqrt(200)


def test_fewer_shards_than_ranks_serve_all_ranks():
    order = GlobalOrder([16], seed=0, global_batch_size=8, window_shards=4)
    ids = [order.rank_ids(0, 1, rank, 8, 0, 1) for rank in range(8)]
    np.testing.assert_array_equal(np.concatenate(ids), order.step_ids(0, 1))


def test_a_query_does_not_depend_on_the_queries_before_it():
    def fresh() -> GlobalOrder:
        return GlobalOrder([4] * 25, seed=1, global_batch_size=9, window_shards=3)

    used = fresh()
    places = [(epoch, step) for epoch in range(3) for step in range(used.num_steps)]
    for epoch, step in np.random.default_rng(0).permutation(places).tolist():
        np.testing.assert_array_equal(used.step_ids(epoch, step), fresh().step_ids(epoch, step))
    again = pickle.loads(pickle.dumps(used))
    np.testing.assert_array_equal(again.step_ids(2, 5), used.step_ids(2, 5))


def test_a_step_larger_than_many_windows_is_whole():
    order = GlobalOrder([2] * 50, seed=0, global_batch_size=100, window_shards=1)
    ids = order.step_ids(0, 0)
    assert ids.dtype == np.int64
    assert sorted(ids.tolist()) == list(range(100))


def test_a_query_keeps_few_windows_in_memory():
    order = GlobalOrder([10] * 1000, seed=0, global_batch_size=10, window_shards=2)
    epoch_ids(order, 0)
    windows = [array for key, array in order._cache.items() if len(key) == 2]
    assert sum(map(len, windows)) <= 4 * 20


def test_the_position_of_a_step_counts_through_the_epochs():
    order = GlobalOrder([10], seed=0, global_batch_size=3, window_shards=1)
    assert [order.position(step) for step in (0, 2, 3, 7)] == [(0, 0), (0, 2), (1, 0), (2, 1)]


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ConfigError, match=r"batch of 11 .* data set of 10"):
        GlobalOrder([4, 6], seed=0, global_batch_size=11, window_shards=1)


@pytest.mark.parametrize("sizes", [{"global_batch_size": 0}, {"window_shards": 0}])
def test_sizes_that_are_not_positive_are_refused(sizes):
    with pytest.raises(ConfigError, match="must be positive"):
        GlobalOrder([4], seed=0, **{"global_batch_size": 1, "window_shards": 1} | sizes)


def test_a_batch_that_does_not_divide_is_refused_with_what_would_fit():
    order = GlobalOrder([40], seed=0, global_batch_size=10, window_shards=1)
    with pytest.raises(ConfigError, match=r"10 does not divide among 2 ranks x 2 .* 8 or 12"):
        order.rank_ids(0, 0, 0, 2, 0, 2)
    with pytest.raises(ConfigError, match=r"16 ranks x 1 accumulation steps; 16 would"):
        order.rank_ids(0, 0, 0, 16, 0, 1)


@pytest.mark.parametrize("query", [(0, 4), (0, -1), (-1, 0)])
def test_steps_outside_the_epoch_are_refused(query):
    order = GlobalOrder([40], seed=0, global_batch_size=10, window_shards=1)
    with pytest.raises(IndexError, match="no step"):
        order.step_ids(*query)


@pytest.mark.parametrize("query", [(0, 0, 2, 2, 0, 1), (0, 0, -1, 2, 0, 1), (0, 0, 0, 2, 1, 1)])
def test_ranks_outside_the_world_are_refused(query):
    order = GlobalOrder([40], seed=0, global_batch_size=10, window_shards=1)
    with pytest.raises(IndexError, match="no micro-batch"):
        order.rank_ids(*query)
