import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from md2dist.data.recordings.frame_names import natural_key, number_frames
from md2dist.errors import KittiDataError


@given(
    st.lists(st.integers(0, 10**12), min_size=1, unique=True), st.sampled_from(["", "f", "a b_"])
)
def test_names_are_sorted_by_their_numbers(numbers, prefix):
    names = [f"{prefix}{number}.png" for number in numbers]
    assert sorted(names, key=natural_key) == [f"{prefix}{n}.png" for n in sorted(numbers)]


@given(
    st.integers(0, 10**9), st.integers(1, 50), st.sampled_from(["frame{}", "{:06d}", "cam0_{}x"])
)
def test_consecutive_frames_keep_their_numbers(first, count, form):
    expected = {n: f"{form.format(n)}.jpg" for n in range(first, first + count)}
    names = list(expected.values())
    random.Random(0).shuffle(names)
    assert number_frames(names, "walk") == expected


@pytest.mark.parametrize(
    "names",
    [
        ["f0.png", "f5.png", "f10.png"],  # every fifth frame
        ["1403636579763555584.png", "1403636579813555456.png", "1403636579863555584.png"],  # ns
        ["1311868164.363181.png", "1311868164.399026.png", "1311868165.430940.png"][:2],  # s
        ["2024-05-01_12-30-58.png", "2024-05-01_12-30-59.png", "2024-05-01_12-31-00.png"],
        ["a.png", "b.png", "c.png"],
    ],
)
def test_other_frames_are_numbered_from_0(names):
    assert number_frames(names[::-1], "walk") == dict(enumerate(names))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["f1.png", "f2.png", "f4.png", "f5.png"], r"missing between f2\.png and f4\.png"),
        (["f1.png", "f2.png", "f4.png", "f6.png"], r"missing between f2\.png and f4\.png"),
        (["f1.png", "f1.jpg", "f2.png"], r"f1\.jpg and f1\.png, which have the same number"),
        (["f1.png", "f01.png", "f2.png"], "which have the same number"),
        (["cover.png", "f1.png", "f2.png"], r"cover\.png and f1\.png, which are not named alike"),
        (
            ["1311868164.36.png", "1311868164.40.png", "1311868164.44.png", "1311868164.56.png"],
            "missing between",
        ),
    ],
)
def test_missing_repeated_and_foreign_frames_are_refused(names, words):
    with pytest.raises(KittiDataError, match=f"walk.*{words}"):
        number_frames(names, "walk")
