import threading
import time

import pytest

from md2dist.pipeline import iterate_ahead, run_pipeline


def run(batches, prepare=lambda x: x, compute=lambda xs: xs, finish=lambda x, y: (x, y)):
    return run_pipeline(batches, prepare, compute, finish)


def test_results_keep_the_order_of_the_items_whatever_the_threads_do():
    def prepare(item):
        time.sleep(0.002 * (item % 3))
        return item

    def finish(item, output):
        time.sleep(0.002 * (-item % 3))
        return item, output

    batches = [range(3), range(3, 4), range(4, 9)]
    found = list(run(batches, prepare, lambda items: [x * x for x in items], finish))
    assert found == [(n, n * n) for n in range(9)]
    assert list(run([])) == []


def test_three_batches_are_in_memory_at_most():
    begun, finished, lock = set(), set(), threading.Lock()

    def prepare(item):
        with lock:
            begun.add(item)
            assert len(begun - finished) <= 6
        return item

    def finish(item, _):
        with lock:
            finished.add(item)
        return item

    batches = ((2 * n, 2 * n + 1) for n in range(20))
    assert list(run(batches, prepare, lambda items: items, finish)) == list(range(40))


@pytest.mark.parametrize("stage", ["batches", "prepare", "compute", "finish"])
def test_an_error_of_any_stage_is_raised_after_the_results_before_it(stage):
    def fail_at_5(item, name):
        if name == stage and item == 5:
            raise ValueError("item 5")
        return item

    def batches():
        for start in range(0, 12, 2):
            if start == 4:
                fail_at_5(5, "batches")
            yield [start, start + 1]

    results = run(
        batches(),
        lambda item: fail_at_5(item, "prepare"),
        lambda items: [fail_at_5(item, "compute") for item in items],
        lambda item, _: fail_at_5(item, "finish"),
    )
    found = []
    with pytest.raises(ValueError, match="item 5"):
        found.extend(results)
    assert found == ([0, 1, 2, 3, 4] if stage == "finish" else [0, 1, 2, 3])


def test_an_interrupt_ends_with_begun_calls_completed_and_no_thread_left():
    before = threading.active_count()
    begun, finished = [], []

    def finish(item, _):
        begun.append(item)
        time.sleep(0.02)
        finished.append(item)

    def compute(items):
        if items[0] >= 4:
            raise KeyboardInterrupt
        return items

    batches = ([n, n + 1] for n in range(0, 100, 2))
    with pytest.raises(KeyboardInterrupt):
        list(run(batches, compute=compute, finish=finish))
    assert sorted(begun) == sorted(finished)
    assert max(begun) < 4
    assert threading.active_count() == before


def test_an_iterator_is_read_a_few_items_ahead_in_a_thread():
    read = []

    def items():
        for n in range(10):
            read.append((n, threading.current_thread()))
            yield n
        raise ValueError("at the end")

    ahead = iterate_ahead(items(), 3)
    assert next(ahead) == 0
    assert next(ahead) == 1
    time.sleep(0.05)
    assert len(read) <= 5
    assert threading.main_thread() not in {thread for _, thread in read}
    with pytest.raises(ValueError, match="at the end"):
        list(ahead)
    closed = iterate_ahead(items(), 3)
    next(closed)
    closed.close()
    assert len(read) < 20
