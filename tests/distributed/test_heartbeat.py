from md2dist.distributed.heartbeat import Heartbeat, HeartbeatMonitor


def beats(*counts, progress=0, doing="at step 3"):
    return {
        rank: Heartbeat(count, progress, doing, f"process {rank}")
        for rank, count in enumerate(counts)
    }


def test_a_rank_is_given_up_after_so_many_looks_without_a_beat_and_not_before():
    monitor = HeartbeatMonitor(dead_after=3)
    monitor.update(beats(1, 1))
    for look in range(2):
        monitor.update(beats(2 + look, 1))
        assert monitor.dead() == []
    monitor.update(beats(4, 1))
    assert monitor.dead() == [1]
    assert monitor.describe_dead() == "rank 1 (process 1, at step 3)"


def test_a_late_beat_is_a_beat():
    monitor = HeartbeatMonitor(dead_after=3)
    for count in (1, 1, 1, 2, 2, 2, 3):
        monitor.update(beats(count))
        assert monitor.dead() == []


def test_a_machine_that_slept_as_a_whole_has_lost_nobody():
    monitor = HeartbeatMonitor(dead_after=2)
    for count in (1, 2, 500, 501):  # the pause between two looks does not matter
        monitor.update(beats(count, count))
    assert monitor.dead() == []


def test_a_standstill_is_one_of_all_ranks():
    monitor = HeartbeatMonitor(dead_after=3)
    for count in range(5):
        both = beats(count, count, progress=7)
        both[1] = both[1]._replace(progress=count)
        monitor.update(both)
        assert monitor.stalled_updates == 0
    for looks in range(1, 4):
        both = {rank: beat._replace(count=beat.count + looks) for rank, beat in both.items()}
        monitor.update(both)
        assert monitor.stalled_updates == looks
    monitor.update(beats(99, 99, progress=8))
    assert monitor.stalled_updates == 0


def test_ranks_that_do_the_same_are_told_together():
    monitor = HeartbeatMonitor(dead_after=3)
    some = beats(1, 1, 1)
    some[1] = some[1]._replace(activity="reading the data of step 3")
    monitor.update(some)
    assert monitor.describe_work() == "rank 0, 2: at step 3; rank 1: reading the data of step 3"
