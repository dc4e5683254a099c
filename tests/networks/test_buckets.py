import torch
from torch import nn

from md2dist.networks.buckets import fill_buckets


def make_parameters():
    shapes = [(1, 1), (9,), (3, 1), (50, 1), (2,), (2, 1), (2, 1)]
    return [nn.Parameter(torch.empty(shape)) for shape in shapes]


def test_buckets_are_full_with_their_last_weight_from_the_end_of_the_model_and_vectors_come_last():
    parameters = make_parameters()
    buckets = fill_buckets(parameters, bucket_bytes=40)
    names = {id(x): index for index, x in enumerate(parameters)}
    assert [[names[id(x)] for x in bucket] for bucket in buckets] == [[6, 5, 3], [2, 0, 4, 1]]


def test_frozen_parameters_are_in_no_bucket():
    parameters = make_parameters()
    parameters[3].requires_grad_(False)
    buckets = fill_buckets(parameters, bucket_bytes=1)
    assert parameters[3] not in {x for bucket in buckets for x in bucket}
    assert sum(map(len, buckets)) == 6
    assert fill_buckets([parameters[3]]) == []
