import torch

from md2dist.networks.buckets import fill_buckets


def test_buckets_hold_all_tensors_in_order_and_are_full_with_their_last_one():
    tensors = [torch.empty(size) for size in (1, 9, 3, 50, 2, 2, 2)]
    buckets = fill_buckets(tensors, bucket_bytes=40)
    assert [[len(x) for x in bucket] for bucket in buckets] == [[1, 9], [3, 50], [2, 2, 2]]
    assert [id(x) for bucket in buckets for x in bucket] == list(map(id, tensors))


def test_no_tensors_fill_no_bucket():
    assert fill_buckets([]) == []
