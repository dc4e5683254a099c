import gc
import threading
import weakref

import pytest

from md2dist.storage.read_ahead import ReadAheadLimits, read_ahead

FAR = ReadAheadLimits(100, 100, 100)


class Opener:
    """Opens files that are their own names, and remembers them."""

    def __init__(self):
        self.opened: list[str] = []
        self.may_open = threading.Event()
        self.may_open.set()

    def __call__(self, key: str) -> str:
        self.may_open.wait(30)
        self.opened.append(key)
        if key == "bad":
            raise OSError("gone")
        return f"file {key}"


def start(keys, opener, limits=FAR, num_threads=2):
    items = ((number, key) for number, key in enumerate(keys))
    return read_ahead(items, opener, lambda key: 10, limits, num_threads)


def test_items_come_in_order_with_their_files_each_opened_once():
    opener, keys = Opener(), list("abacaba")
    assert list(start(keys, opener)) == [(i, f"file {key}") for i, key in enumerate(keys)]
    assert sorted(opener.opened) == ["a", "b", "c"]
    assert list(start([], opener)) == []


@pytest.mark.parametrize(
    "limits",
    [ReadAheadLimits(3, 99, 999), ReadAheadLimits(99, 3, 999), ReadAheadLimits(99, 99, 30)],
)
def test_no_more_is_opened_ahead_than_allowed(limits):
    opener = Opener()
    asked = []

    def keys():
        for number in range(20):
            asked.append(number)
            yield str(number)

    for number, _ in start(keys(), opener, limits):
        assert len(asked) <= number + 1 + 3
    assert len(asked) == 20


def test_a_file_larger_than_allowed_is_opened_all_the_same():
    assert len(list(start("abc", Opener(), ReadAheadLimits(1, 1, 1)))) == 3


def test_files_are_opened_while_the_reader_is_busy():
    opener = Opener()
    items = start("abcdefgh", opener, ReadAheadLimits(4, 100, 1000))
    next(items)
    while len(opener.opened) < 5:
        threading.Event().wait(0.01)
    assert sorted(opener.opened) == list("abcde")


def test_an_error_comes_at_the_turn_of_its_item_and_ends_the_rest():
    items = start(["a", "b", "bad", "c"], Opener())
    assert [next(items)[0], next(items)[0]] == [0, 1]
    with pytest.raises(OSError, match="gone"):
        next(items)
    assert list(items) == []


def test_a_reader_that_leaves_does_not_wait():
    before = threading.active_count()
    opener = Opener()
    items = start("abcdef", opener, ReadAheadLimits(2, 9, 99))
    next(items)
    opener.may_open.clear()
    next(items)
    items.close()
    opener.may_open.set()
    while threading.active_count() > before:
        threading.Event().wait(0.01)
    assert len(opener.opened) < 6


def test_a_file_and_its_key_are_let_go_when_nothing_in_reach_needs_them():
    alive = []

    class Known:
        """A key, or its file."""

        def __init__(self, number):
            self.number = number
            alive.append((number, weakref.ref(self)))

    keys = ((number, Known(number)) for number in range(6))
    items = read_ahead(
        keys, lambda key: Known(key.number), lambda key: 1, ReadAheadLimits(2, 9, 9), 1
    )
    for number, file in items:
        del file
        gc.collect()
        assert not [name for name, ref in alive if name < number and ref() is not None]
