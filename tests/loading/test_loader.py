import pickle
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from helpers.small_shards import small_image, small_info, write_small_shards
from webdataset import filters

from md2dist.data.loading.collate import recipe_intrinsics
from md2dist.data.loading.loader import FrameLoader, Workers, choose_num_workers, make_loader
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.topology import Topology
from md2dist.errors import ConfigError, ShardError
from md2dist.records import FrameBatch

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
VIEWS = ("0", "-1", "+1", "s")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> ShardDataset:
    return ShardDataset(write_small_shards(tmp_path_factory.mktemp("shards"), num_samples=22))


def loader_of(
    dataset: ShardDataset,
    topology: Topology = Topology(),
    views: Sequence[str] = VIEWS,
    steps: range = range(7),  # five steps make an epoch
    num_workers: int = 0,
    **settings,
) -> FrameLoader:
    order = GlobalOrder(dataset.manifest.shard_sizes, seed=3, global_batch_size=4, window_shards=2)
    workers = Workers(num_workers)
    return make_loader(
        dataset, order, topology, views=views, steps=steps, workers=workers, **settings
    )


def assert_same_stream(found: list[FrameBatch], expected: list[FrameBatch]) -> None:
    assert len(found) == len(expected)
    for batch, wanted in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, wanted, strict=True))


def test_batches_hold_the_packed_pixels_of_the_global_order(dataset):
    order = GlobalOrder(dataset.manifest.shard_sizes, seed=3, global_batch_size=4, window_shards=2)
    batches = list(loader_of(dataset))
    assert len(batches) == 7
    for step, batch in enumerate(batches):
        ids = order.step_ids(*order.position(step)).tolist()
        assert batch.sample_id.tolist() == ids
        assert [field.dtype for field in batch] == [
            torch.uint8,
            torch.float32,
            torch.float32,
            torch.int64,
        ]
        for i, sample_id in enumerate(ids):
            for j, view in enumerate(VIEWS):
                expected = small_image(sample_id, view, 32, 64)
                np.testing.assert_array_equal(batch.frames[i, j], expected)


@pytest.mark.parametrize("num_workers", [1, 2, 3, 9])
def test_any_number_of_workers_gives_the_same_stream(dataset, num_workers):
    # Nine workers for seven batches: some have nothing to do.
    loader = loader_of(dataset, num_workers=num_workers)
    expected = list(loader_of(dataset))
    assert_same_stream(list(loader), expected)
    assert_same_stream(list(loader), expected)  # and again from the start
    assert len(loader) == 7


@pytest.mark.parametrize(("num_cores", "expected"), [(1, 1), (7, 3), (64, 4)])
def test_two_ranks_take_no_more_workers_than_cores(monkeypatch, num_cores, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(num_cores)))
    assert choose_num_workers(None, node_size=2) == expected
    assert choose_num_workers(9, node_size=2) == 9


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_that_starts_later_is_the_rest_of_the_whole(dataset, num_workers):
    whole = list(loader_of(dataset))
    rest = loader_of(dataset, steps=range(3, 7), num_workers=num_workers)
    assert_same_stream(list(rest), whole[3:])
    assert list(loader_of(dataset, steps=range(7, 7), num_workers=num_workers)) == []


def test_a_stream_that_starts_later_reads_nothing_of_what_is_before_it(dataset, monkeypatch):
    read, plain = [], ShardDataset.stream

    def stream(self, indices, **settings):
        indices = list(indices)
        read.extend(indices)
        return plain(self, indices, **settings)

    monkeypatch.setattr(ShardDataset, "stream", stream)
    rest = list(loader_of(dataset, steps=range(3, 7)))
    assert read == torch.cat([batch.sample_id for batch in rest]).tolist()


@pytest.mark.parametrize(("world_size", "num_accum"), [(1, 4), (2, 2), (4, 1), (2, 1)])
def test_ranks_and_accumulation_steps_share_out_the_same_samples(dataset, world_size, num_accum):
    shares = [
        list(
            loader_of(
                dataset,
                Topology(rank, world_size, grad_accum_steps=num_accum),
                num_workers=rank % 2,
            )
        )
        for rank in range(world_size)
    ]
    for step, whole in enumerate(loader_of(dataset)):
        parts = [
            shares[rank][step * num_accum + accum_index].sample_id
            for accum_index in range(num_accum)
            for rank in range(world_size)
        ]
        assert torch.cat(parts).tolist() == whole.sample_id.tolist()


def test_only_the_views_asked_for_are_loaded(dataset):
    batch = next(iter(loader_of(dataset, views=["0", "+1"])))
    assert batch.frames.shape == (4, 2, 32, 64, 3)
    first = int(batch.sample_id[0])
    np.testing.assert_array_equal(batch.frames[0, 1], small_image(first, "+1", 32, 64))
    assert torch.equal(batch.T_stereo, torch.eye(4).expand(4, 4, 4))


def test_the_stereo_view_comes_last_with_the_sign_of_the_targets_side(dataset):
    batch = next(iter(loader_of(dataset, views=["0", "s"])))
    assert batch.frames.shape == (4, 2, 32, 64, 3)
    expected = torch.eye(4).repeat(4, 1, 1)
    expected[:, 0, 3] = torch.where(batch.sample_id % 2 == 0, -0.1, 0.1)  # even: left targets
    assert torch.equal(batch.T_stereo, expected)
    assert len(set(batch.T_stereo[:, 0, 3].tolist())) == 2


def test_the_camera_matrix_is_the_recipes_or_the_calibrated_one(dataset):
    recipe = torch.tensor([[0.58 * 64, 0, 32], [0, 1.92 * 32, 16], [0, 0, 1]])
    batch = next(iter(loader_of(dataset)))
    torch.testing.assert_close(batch.K, recipe.expand(4, 3, 3))
    np.testing.assert_array_equal(batch.K[0], recipe_intrinsics(32, 64))
    batch = next(iter(loader_of(dataset, use_true_intrinsics=True)))
    calibrated = [small_info(i, 32, 64)["K"] for i in batch.sample_id.tolist()]
    torch.testing.assert_close(batch.K, torch.tensor(calibrated))


def test_stages_of_the_user_see_raw_samples_and_may_change_pixels(dataset):
    seen = []

    def darken(sample):
        seen.append((sample["__id__"], sample["__key__"]))
        assert bytes(sample["+1.png"][:4]) == b"\x89PNG"
        return {**sample, "0.png": np.full((32, 64, 3), 7, np.uint8)}

    batch = next(iter(loader_of(dataset, stages=[filters.map(darken)])))
    assert (batch.frames[:, 0] == 7).all()
    first = int(batch.sample_id[0])
    np.testing.assert_array_equal(batch.frames[0, 1], small_image(first, "-1", 32, 64))
    assert seen[0] == (first, small_info(first, 32, 64)["key"])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    "stage",
    [
        filters.select(lambda sample: sample["__id__"] % 5),
        filters.slice(9),
        filters.slice(8),
        lambda samples: (twin for sample in samples for twin in (sample, sample)),
        lambda samples: reversed(list(samples)),
    ],
    ids=["drops", "ends within a batch", "ends after a batch", "doubles", "reorders"],
)
def test_stages_that_break_the_order_are_refused(dataset, stage, num_workers):
    with pytest.raises(ConfigError, match="drops, adds or reorders"):
        list(loader_of(dataset, stages=[stage], num_workers=num_workers))


def test_pixels_of_another_size_are_refused(dataset):
    shrink = filters.map(lambda sample: {**sample, "0.png": np.zeros((1, 1, 3), np.uint8)})
    with pytest.raises(ShardError, match=r"view 0 has shape \(1, 1, 3\), expected \(32, 64, 3\)"):
        next(iter(loader_of(dataset, stages=[shrink])))


def test_a_sample_without_its_json_is_refused(dataset):
    strip = filters.map(lambda sample: {k: v for k, v in sample.items() if k != "json"})
    with pytest.raises(ShardError, match=r"is damaged \(lacks 'json'\)"):
        next(iter(loader_of(dataset, stages=[strip])))


def test_sizes_that_do_not_make_up_the_global_batch_are_refused(dataset):
    with pytest.raises(ConfigError, match=r"batch of 4 does not divide among 1 ranks x 3"):
        loader_of(dataset, Topology(grad_accum_steps=3))


def test_views_that_are_not_packed_are_refused_at_once(tmp_path):
    mono = ShardDataset(write_small_shards(tmp_path, use_stereo=False))
    with pytest.raises(ShardError, match="without the stereo view"):
        loader_of(mono)
    with pytest.raises(ShardError, match=r"the run needs \[-2, 1\]"):
        loader_of(mono, views=["0", "-2", "+1"])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("damage", ["missing", "pixels"])
def test_a_damaged_shard_is_one_short_error_after_the_batches_before_it(
    tmp_path, num_workers, damage
):
    dataset = ShardDataset(write_small_shards(tmp_path, num_samples=22))
    path = tmp_path / "shard-000003.tar"  # samples 12 to 15
    if damage == "missing":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"IDAT", b"TADI"))
    batches, found = iter(loader_of(dataset, num_workers=num_workers)), []
    with pytest.raises(ShardError, match=r"shard-000003\.tar") as caught:
        found.extend(iter(lambda: next(batches), None))
    assert "\n" not in str(caught.value)
    whole = ShardDataset(write_small_shards(tmp_path, num_samples=22))
    intact = [b for b in loader_of(whole) if not set(b.sample_id.tolist()) & {12, 13, 14, 15}]
    assert found
    assert_same_stream(found, intact[: len(found)])


def test_batches_of_a_worker_arrive_as_records_that_pickle(dataset):
    batch = next(iter(loader_of(dataset, num_workers=1)))
    assert isinstance(batch, FrameBatch)
    assert_same_stream([pickle.loads(pickle.dumps(batch))], [batch])


def test_workers_compute_with_one_thread(dataset):
    def count(sample):
        return {**sample, "0.png": np.full((32, 64, 3), torch.get_num_threads(), np.uint8)}

    batches = loader_of(dataset, num_workers=2, stages=[filters.map(count)])
    assert all((batch.frames[:, 0] == 1).all() for batch in batches)
