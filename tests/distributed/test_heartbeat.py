from md2dist.distributed.heartbeat import Heartbeat, HeartbeatMonitor


def heartbeats(*counts, progress=0, activity="at step 3"):
    return {
        rank: Heartbeat(count, progress, activity, f"process {rank}")
        for rank, count in enumerate(counts)
    }


def test_a_rank_is_dead_after_so_many_updates_without_a_heartbeat_and_not_before():
    monitor = HeartbeatMonitor(dead_after=3)
    monitor.update(heartbeats(1, 1))
    for number in range(2):
        monitor.update(heartbeats(2 + number, 1))
        assert monitor.dead() == []
    monitor.update(heartbeats(4, 1))
    assert monitor.dead() == [1]
    assert monitor.describe_dead() == "rank 1 (process 1, at step 3)"


def test_a_late_heartbeat_counts():
    monitor = HeartbeatMonitor(dead_after=3)
    for count in (1, 1, 1, 2, 2, 2, 3):
        monitor.update(heartbeats(count))
        assert monitor.dead() == []


def test_a_suspended_machine_has_no_dead_ranks():
    monitor = HeartbeatMonitor(dead_after=2)
    for count in (1, 2, 500, 501):  # the pause between two updates does not matter
        monitor.update(heartbeats(count, count))
    assert monitor.dead() == []


def test_a_standstill_is_one_of_all_ranks():
    monitor = HeartbeatMonitor(dead_after=3)
    for count in range(5):
        both = heartbeats(count, count, progress=7)
        both[1] = both[1]._replace(progress=count)
        monitor.update(both)
        assert monitor.stalled_updates == 0
    for num_updates in range(1, 4):
        both = {r: sent._replace(count=sent.count + num_updates) for r, sent in both.items()}
        monitor.update(both)
        assert monitor.stalled_updates == num_updates
    monitor.update(heartbeats(99, 99, progress=8))
    assert monitor.stalled_updates == 0


def test_ranks_with_the_same_activity_are_described_together():
    monitor = HeartbeatMonitor(dead_after=3)
    some = heartbeats(1, 1, 1)
    some[1] = some[1]._replace(activity="reading the data of step 3")
    monitor.update(some)
    assert monitor.describe_work() == "rank 0, 2: at step 3; rank 1: reading the data of step 3"
