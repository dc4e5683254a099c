import pytest
import torch.distributed as dist

from md2dist.distributed.channel import Channel
from md2dist.distributed.failure import Failure
from md2dist.distributed.heartbeat import Heartbeat


@pytest.fixture
def channels():
    """Two connections to one store."""
    store = dist.HashStore()
    return Channel(store), Channel(store)


def test_a_fresh_store_holds_nothing(channels):
    assert channels[0].heartbeats([0]) is None
    assert channels[0].stop_reason() is None
    assert channels[0].failure() is None


def test_heartbeats_are_read_once_all_ranks_have_sent_one(channels):
    first = Heartbeat(3, 7, "reading the data of step 4", "process 12 on node1")
    second = first._replace(count=4)
    channels[0].set_heartbeat(0, first)
    assert channels[1].heartbeats([0, 1]) is None
    channels[1].set_heartbeat(1, first)
    channels[0].set_heartbeat(0, second)
    assert channels[1].heartbeats(range(2)) == {0: second, 1: first}


def test_the_first_reason_of_a_stop_stays(channels):
    channels[0].request_stop("because")
    channels[1].request_stop("for another reason")
    assert channels[1].stop_reason() == "because"


def test_the_first_failure_is_that_of_all_ranks(channels):
    first, second = Failure("out of memory", shows_stacks=True), Failure("connection lost")
    assert channels[0].announce_failure(first) == first
    assert channels[1].announce_failure(second) == first
    assert channels[1].failure() == first
