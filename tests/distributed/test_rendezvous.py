"""Ranks that meet, each in a thread, and processes that are refused."""

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from md2dist.distributed import rendezvous, waiting
from md2dist.distributed.channel import Lobby
from md2dist.distributed.launcher import Launch
from md2dist.distributed.rendezvous import meet
from md2dist.distributed.world import find_free_port
from md2dist.errors import ConfigError


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(rendezvous, "_FOR_RANK_0_S", 0.3)


@pytest.fixture
def port() -> int:
    return find_free_port()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def launch(port: int, rank: int, world_size: int = 2, **others) -> Launch:
    return Launch(rank, rank, world_size, world_size, "127.0.0.1", port, **others)


def refused(port: int, rank: int, world_size: int = 2, **others) -> str:
    with pytest.raises(ConfigError) as caught:
        meet(launch(port, rank, world_size, **others))
    return str(caught.value)


def wait_until_entered(port: int, rank: int) -> None:
    lobby = Lobby(dist.TCPStore("localhost", port, is_master=False, wait_for_workers=False))
    while not ((meeting := lobby.meeting()) and lobby.has_entered(meeting, rank)):
        time.sleep(0.05)


def test_all_ranks_find_one_meeting_in_any_order(pool, port):
    late = pool.submit(meet, launch(port, 1, 3))
    time.sleep(0.5)
    ranks = [late, *(pool.submit(meet, launch(port, rank, 3)) for rank in (0, 2))]
    meetings = [rank.result(20)[1] for rank in ranks]
    assert meetings[0] == meetings[1] == meetings[2]
    assert meetings[0].world_size == 3


def test_a_single_process_takes_any_free_port():
    (first, meeting), (second, other) = meet(Launch()), meet(Launch())
    assert first.port != second.port
    assert meeting.name != other.name


def test_a_second_job_at_the_same_port_is_refused_and_writes_nothing(pool, port):
    ranks = [pool.submit(meet, launch(port, rank)) for rank in (0, 1)]
    store, meeting = ranks[0].result(20)
    before = store.num_keys()
    assert f"port {port} of this machine is in use" in refused(port, 0)
    assert "is complete without this process" in refused(port, 1)
    assert "has 2 ranks, but this process is rank 2 of 3" in refused(port, 2, 3)
    assert "is another one" in refused(port, 1, launcher="another launcher")
    assert "is another one" in refused(port, 1, job="srun 7.0")
    assert store.num_keys() == before
    assert ranks[1].result()[1] == meeting


def test_while_a_job_waits_no_process_of_another_one_takes_its_place(pool, port):
    first = pool.submit(meet, launch(port, 0, launcher="a", node="0"))
    assert "is another one" in refused(port, 1, launcher="b")
    assert "is another one" in refused(port, 1)
    assert "is another one" in refused(port, 1, launcher="b", node="0")
    assert "has 2 ranks" in refused(port, 1, 4, launcher="a")
    assert not first.done()
    second = pool.submit(meet, launch(port, 1, launcher="a", node="0"))
    assert first.result(20)[1] == second.result(20)[1]


def test_a_rank_that_is_started_twice_is_refused(pool, port):
    first, second = (pool.submit(meet, launch(port, rank, 3)) for rank in (0, 1))
    wait_until_entered(port, rank=1)
    assert "rank 1 of the job at" in refused(port, 1, 3)
    third = pool.submit(meet, launch(port, 2, 3))
    assert first.result(20)[1] == second.result(20)[1] == third.result(20)[1]


def test_two_launchers_on_another_node_are_refused_by_rank_0(pool, port, monkeypatch):
    machine = threading.local()
    monkeypatch.setattr(
        rendezvous, "identify_machine", lambda: getattr(machine, "name", "first node")
    )

    def join(rank, launcher):
        machine.name = "second node"
        return meet(launch(port, rank, 3, launcher=launcher))

    ranks = [pool.submit(join, 1, "a"), pool.submit(join, 2, "b")]
    assert "were started by different launchers" in refused(port, 0, 3, launcher="c")
    for rank in ranks:
        assert isinstance(rank.exception(20), SystemExit)


def test_one_machine_may_stand_for_two_nodes(pool, port):
    ranks = [
        pool.submit(meet, launch(port, rank, node=str(rank), launcher=f"launcher {rank}"))
        for rank in (0, 1)
    ]
    assert ranks[0].result(20)[1] == ranks[1].result(20)[1]


def test_a_store_of_another_version_is_refused(port):
    store = dist.TCPStore("localhost", port, is_master=True, wait_for_workers=False)
    for meeting in ("{}", "[1, 2]", '["a", 2, [1]]', "x"):
        store.set("md2dist/meeting", meeting)
        assert "another version of md2dist" in refused(port, 1)


def test_an_unknown_host_is_named(monkeypatch):
    monkeypatch.setattr(rendezvous, "_UNKNOWN_HOST_S", 0)
    for rank in (0, 1):
        place = launch(find_free_port(), rank)._replace(address="nowhere.invalid")
        with pytest.raises(ConfigError, match=r"MASTER_ADDR=nowhere\.invalid is unknown"):
            meet(place)


def test_ranks_whose_launcher_is_gone_leave(monkeypatch, port):
    monkeypatch.setattr(rendezvous.LauncherMonitor, "is_gone", lambda monitor: True)
    for rank in (0, 1):
        assert "launcher of rank" in refused(port, rank, is_launched=True)


class Ended(BaseException):
    pass


def test_what_is_missing_is_logged_and_after_ten_minutes_the_process_ends(
    pool, port, monkeypatch, caplog, capsys
):
    ended = threading.Event()
    monkeypatch.setattr(waiting, "_FIRST_LINE_S", 0.5)
    monkeypatch.setattr(waiting, "_LINE_S", 0.5)
    monkeypatch.setattr(waiting, "_TIMEOUT_S", 3.0)
    monkeypatch.setattr(waiting, "end_process", lambda code: ended.set() or Ended)
    monkeypatch.setattr(rendezvous._Rendezvous, "_check_launcher", lambda self: leave(ended))
    place = launch(port, 0, 4)
    with caplog.at_level(logging.WARNING), pytest.raises(Ended):
        meet(place)
    assert f"waiting for 3 of 4 ranks (1, 2, 3) at 127.0.0.1:{port}" in caplog.text
    error = capsys.readouterr().err
    assert "gave up waiting for 3 of 4 ranks (1, 2, 3) at" in error
    assert "after 3 s; check that all ranks were started" in error


def leave(ended):
    if ended.is_set():
        raise Ended


def test_a_program_that_never_answers_at_the_port_is_waited_for(port, monkeypatch, caplog):
    ended = threading.Event()
    monkeypatch.setattr(waiting, "_FIRST_LINE_S", 0.5)
    monkeypatch.setattr(rendezvous, "_ANSWER", timedelta(seconds=1))
    monkeypatch.setattr(rendezvous._Rendezvous, "_check_launcher", lambda self: leave(ended))
    with ThreadPoolExecutor() as pool, socket.create_server(("127.0.0.1", port)):
        rank = pool.submit(meet, launch(port, 1))
        time.sleep(2)
        ended.set()
    assert isinstance(rank.exception(20), Ended)
    assert f"waiting for rank 0 at 127.0.0.1:{port}" in caplog.text
