from md2dist.distributed.heartbeat import Beat, Vitals


def beats(*counts, progress=0, doing="at step 3"):
    return {
        rank: Beat(count, progress, doing, f"process {rank}") for rank, count in enumerate(counts)
    }


def test_a_beat_survives_its_way_through_the_store():
    beat = Beat(3, 7, "reading the data of step 4", "process 12 on node1")
    assert Beat.decode(beat.encode().encode()) == beat


def test_a_rank_is_given_up_after_so_many_looks_without_a_beat_and_not_before():
    vitals = Vitals(dead_after=3)
    vitals.look(beats(1, 1))
    for look in range(2):
        vitals.look(beats(2 + look, 1))
        assert vitals.dead() == []
    vitals.look(beats(4, 1))
    assert vitals.dead() == [1]
    assert vitals.describe_dead() == "rank 1 (process 1, at step 3)"


def test_a_late_beat_is_a_beat():
    vitals = Vitals(dead_after=3)
    for count in (1, 1, 1, 2, 2, 2, 3):
        vitals.look(beats(count))
        assert vitals.dead() == []


def test_a_machine_that_slept_as_a_whole_has_lost_nobody():
    vitals = Vitals(dead_after=2)
    for count in (1, 2, 500, 501):  # the pause between two looks does not matter
        vitals.look(beats(count, count))
    assert vitals.dead() == []


def test_a_standstill_is_one_of_all_ranks():
    vitals = Vitals(dead_after=3)
    for count in range(5):
        both = beats(count, count, progress=7)
        both[1] = both[1]._replace(progress=count)
        vitals.look(both)
        assert vitals.still_looks == 0
    for looks in range(1, 4):
        both = {rank: beat._replace(count=beat.count + looks) for rank, beat in both.items()}
        vitals.look(both)
        assert vitals.still_looks == looks
    vitals.look(beats(99, 99, progress=8))
    assert vitals.still_looks == 0


def test_ranks_that_do_the_same_are_told_together():
    vitals = Vitals(dead_after=3)
    some = beats(1, 1, 1)
    some[1] = some[1]._replace(doing="reading the data of step 3")
    vitals.look(some)
    assert vitals.describe_work() == "rank 0, 2: at step 3; rank 1: reading the data of step 3"
