import threading

import pytest
import torch

from md2dist.data.loading.background_reader import BackgroundReader
from md2dist.errors import ShardError

CPU = torch.device("cpu")


def test_items_come_in_groups_and_in_order():
    reader = BackgroundReader(range(7), CPU)
    groups = [reader.take(size, lambda: False) for size in (1, 3, 3)]
    assert groups == [[0], [1, 2, 3], [4, 5, 6]]


def test_waiting_is_broken_off_but_not_before_there_is_nothing_to_take():
    release = threading.Event()

    def items():
        yield 0
        release.wait(30)
        yield 1

    reader = BackgroundReader(items(), CPU)
    assert reader.take(1, lambda: True) == [0]
    assert reader.take(1, lambda: True) is None
    release.set()
    assert reader.take(1, lambda: False) == [1]


def test_an_error_is_raised_by_take_after_the_items_before_it():
    def items():
        yield 0
        raise ShardError("sample 1 is damaged")

    reader = BackgroundReader(items(), CPU)
    assert reader.take(1, lambda: False) == [0]
    with pytest.raises(ShardError, match="sample 1"):
        reader.take(1, lambda: False)


@pytest.mark.parametrize("error", [ShardError("damaged"), RuntimeError("a worker exited")])
def test_an_error_during_a_stop_is_the_end_of_the_data(error):
    def items():
        raise error
        yield

    assert BackgroundReader(items(), CPU).take(1, lambda: True) is None


def test_a_worker_that_ends_shortly_before_the_stop_is_known_is_the_end_of_the_data():
    def items():
        raise RuntimeError("a worker exited")
        yield

    answers = iter([False, False, True])
    assert BackgroundReader(items(), CPU).take(1, lambda: next(answers)) is None


def test_nothing_is_read_before_the_first_take():
    read = threading.Event()

    def items():
        read.set()
        yield 0

    reader = BackgroundReader(items(), CPU)
    assert not read.wait(0.2)
    assert reader.take(1, lambda: False) == [0]
