"""What goes wrong with one client's request is that client's alone: others are answered, and nothing is held for it."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from kourou.errors import CallCancelled, WriterExpired
from kourou.replay import Client, Server, Table
from kourou.replay.protocol.remote import Remote, StoreView
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Custom, Fifo
from kourou.replay.server import samples
from kourou.replay.server.client_sessions import Session
from kourou.replay.table.lock import TableLock
from polling import WAIT_S, until
from replay.conftest import Connect, Serve

pytestmark = pytest.mark.usefixtures("no_leaks")


class Picky:
    """A selector of a user's that refuses the first sample, and any insert of a priority of 13."""

    def __init__(self) -> None:
        self._keys: list[int] = []
        self._refuses = True

    def insert(self, key: int, priority: float) -> None:
        if priority == 13:
            raise LookupError("thirteen")
        self._keys.append(key)

    def update(self, key: int, priority: float) -> None: ...

    def delete(self, key: int) -> None:
        self._keys.remove(key)

    def sample(self) -> tuple[int, float]:
        if self._refuses:
            self._refuses = False
            raise LookupError("not the first time")
        return self._keys[0], 1.0


def used_blocks(server: Server) -> int:
    return sum(store.used for store in server._data.stores)


def waits(client: Client, count: int) -> bool:
    return client.server_info()["q"].waiting_samples == count


def test_who_waits_hears_what_went_wrong_and_who_inserted_does_not(serve: Serve, connect: Connect) -> None:
    # given a client that waits for an item
    server = serve(Table("t", Custom(Picky), Fifo(), 100, MinSize(1)))
    inserter, waiter = connect(server), connect(server)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(waiter.sample_batch, "t", 1, WAIT_S)
        until(lambda: inserter.server_info()["t"].waiting_samples, WAIT_S)
        # when another one inserts it, and the selector raises as it is sampled
        inserter.insert({"x": np.array(1)}, {"t": 1.0})
        # then the one that waits hears of it
        with pytest.raises(LookupError, match="not the first time"):
            waiting.result(WAIT_S)
    # and both go on
    assert waiter.sample_batch("t", 1, WAIT_S).data["x"].tolist() == [1]
    with pytest.raises(LookupError, match="thirteen"):
        inserter.insert({"x": np.array(2)}, {"t": 13.0})
    inserter.insert({"x": np.array(3)}, {"t": 1.0})
    inserter.reset("t")
    for client in (inserter, waiter):
        client.close()
    until(lambda: used_blocks(server) == 0, WAIT_S)


def test_an_answer_that_cannot_be_made_is_its_receivers_trouble(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two clients that wait, for the first of which there is no memory
    server = serve(Table.queue("q", 10))
    inserter, first, second = connect(server), connect(server), connect(server)
    pack = samples.pack_group
    failures: list[int] = []

    def fails_once(*args: Any) -> Any:
        if not failures:
            failures.append(1)
            raise BufferError("no room for the answer")
        return pack(*args)

    monkeypatch.setattr(samples, "pack_group", fails_once)
    with ThreadPoolExecutor() as threads:
        replies = []
        for count, client in enumerate((first, second), 1):
            replies.append(threads.submit(client.sample_batch, "q", 1, WAIT_S))
            until(functools.partial(waits, inserter, count), WAIT_S)
        # when what they wait for comes
        inserter.insert_batch("q", {"x": np.arange(2)})
        # then each has its own answer, and nothing is held for the one that failed
        with pytest.raises(BufferError, match="no room"):
            replies[0].result(WAIT_S)
        assert replies[1].result(WAIT_S).data["x"].tolist() == [1]
    for client in (inserter, first, second):
        client.close()
    until(lambda: used_blocks(server) == 0, WAIT_S)


def test_a_sampler_goes_on_after_a_call_that_failed(serve: Serve, connect: Connect) -> None:
    server = serve(Table("t", Custom(Picky), Fifo(), 100, MinSize(1)))
    client = connect(server)
    client.insert_batch("t", {"x": np.arange(4)})
    with client.sampler("t", 2) as batches:
        with pytest.raises(LookupError):
            next(batches)
        assert len(next(batches)) == 2


def test_what_was_drawn_for_a_client_that_is_gone_is_let_go(serve: Serve, connect: Connect) -> None:
    # given a client that waits for four items, of which there are two
    server = serve(Table.queue("q", 10))
    inserter, waiter = connect(server), connect(server)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(waiter.sample_batch, "q", 4)
        inserter.insert_batch("q", {"x": np.arange(2)})
        until(lambda: inserter.server_info()["q"].samples == 2, WAIT_S)
        # when it goes
        waiter.close()
        with pytest.raises(CallCancelled):
            waiting.result(WAIT_S)
    # then nothing is held for it
    inserter.close()
    until(lambda: used_blocks(server) == 0, WAIT_S)


def test_one_of_many_answers_that_fails_keeps_no_other_back(caplog: pytest.LogCaptureFixture) -> None:
    lock, told = TableLock(), []
    with lock:
        lock.after_release(lambda: told.append(1 // 0))
        lock.after_release(lambda: told.append(2))
    assert told == [2]
    assert "ZeroDivisionError" in caplog.text


def test_what_follows_a_message_that_was_not_carried_out_is_refused() -> None:
    # given a writer whose first two messages came in the wrong order
    lock, session = TableLock(), Session(1)
    told: list[Any] = []

    def second() -> None:
        try:
            session.check_not_broken(7)
        except WriterExpired as error:
            told.append(error)

    assert session.run_in_order(lock, (7, 1), second)
    assert not session.run_in_order(lock, (7, 1), second)  # it is there already
    # when the first one fails
    assert session.run_in_order(lock, (7, 0), lambda: session.mark_broken(7))
    # then the second has its turn, and is refused
    assert len(told) == 1
    # and what waits when the client goes is not left waiting
    assert session.run_in_order(lock, (7, 3), second)
    with lock:
        session.end(lock)
    assert len(told) == 2
    assert not session.run_in_order(lock, (7, 2), second)


def test_a_server_that_stops_tells_nobody_of_its_own_affairs(serve: Serve, connect: Connect) -> None:
    # given clients that insert and sample as fast as they can
    server = serve(Table("t", Fifo(), Fifo(), 100, MinSize(1)))
    clients = [connect(server) for _ in range(4)]
    heard: list[BaseException] = []

    def work(client: Client) -> None:
        try:
            while True:
                client.insert_batch("t", {"x": np.arange(3)})
                client.sample_batch("t", 2)
                client.server_info()
        except BaseException as error:
            heard.append(error)

    with ThreadPoolExecutor() as threads:
        working = [threads.submit(work, client) for client in clients]
        until(lambda: len(server.tables[0]) >= 50, WAIT_S)
        # when the server stops
        server.stop()
        for client in clients:
            client.close()
        for each in working:
            each.result(WAIT_S)
    # then all that they hear is that their calls were cancelled, or the connection lost
    assert {type(error).__name__ for error in heard} <= {"CallCancelled", "ConnectionLost"}, heard


@pytest.mark.parametrize(
    "make", [lambda: CallCancelled("it stops"), lambda: OSError(errno.ENOMEM, "no space")], ids=["stops", "full"]
)
def test_blocks_that_cannot_be_mapped_at_once_are_mapped_when_they_are_needed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Exception]
) -> None:
    # given a server whose writer asks in vain, twice, where the memory of its first blocks is
    server = serve(Table("t", Fifo(), Fifo(), 100, MinSize(1)))
    problems = [make(), make()]

    def refresh(remote: Remote, store: int, real: Callable[[Remote, int], StoreView] = Remote.refresh) -> StoreView:
        if problems:
            raise problems.pop()
        return real(remote, store)

    monkeypatch.setattr(Remote, "refresh", refresh)
    with Client(server.address, lane="local") as client, client.trajectory_writer(2) as writer:
        # when it appends its first step
        for _ in range(2):
            with pytest.raises((CallCancelled, OSError), match=r"it stops|no space"):
                writer.append({"x": np.array(1)})
        # then that says so, and can be done once more
        writer.append({"x": np.array(1)})
        writer.create_item("t", 1.0, {"x": writer.history["x"][-1:]})
        writer.flush(timeout_s=WAIT_S)
        assert writer.lost_items == 0
        assert client.sample_batch("t", 1, WAIT_S).data["x"].tolist() == [[1]]
