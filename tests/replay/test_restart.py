"""Writers and samplers whose server was restarted, and calls that fail among numbered ones."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kourou.errors import ServerOverloaded, ServerUnavailable
from kourou.replay import Client, Table
from kourou.replay.protocol.messages import InsertBatch
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo
from polling import until
from quiet_ports import quiet_port
from replay.conftest import Connect, Serve

pytestmark = pytest.mark.usefixtures("no_leaks")

Restart = Callable[[], str]

SERVER = """
import os, signal, sys
from kourou.replay import Checkpointer, Server, Table
from kourou.replay.rate_limiters import MinSize
from kourou.replay.selectors import Fifo

def serve():
    server = Server([Table("t", Fifo(), Fifo(), 1000, MinSize(1))], int(sys.argv[1]), Checkpointer(sys.argv[2]))
    print(server.address, flush=True)
    server.wait()

child = 0
for line in sys.stdin:  # one for each server; the last one ends the one that there is
    if child:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    child = 0 if line == "end\\n" else os.fork()
    if not child and line != "end\\n":
        try:
            serve()
        finally:
            os._exit(1)
"""


def table(name: str = "t") -> Table:
    return Table(name, Fifo(), Fifo(), 1000, MinSize(1))


@pytest.fixture
def restart(tmp_path: Path) -> Iterator[Restart]:
    """Start a server in a process of its own or, when there is one, kill it and start another one in its place."""
    command = [sys.executable, "-c", SERVER, str(quiet_port()), str(tmp_path / "checkpoints")]
    # All of them are forked from one process that has imported what they need.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as servers:
        assert servers.stdin is not None
        assert servers.stdout is not None

        def start() -> str:
            print("next", file=servers.stdin, flush=True)
            return servers.stdout.readline().strip()  # type: ignore[union-attr]

        yield start
        servers.communicate("end\n")


@pytest.fixture(params=["local", "grpc"])
def client(request: pytest.FixtureRequest, restart: Restart) -> Iterator[Client]:
    """A client of a server that was just started."""
    with Client(restart(), lane=request.param) as client:
        yield client


def items(client: Client) -> list[Any]:
    return [sample.data["x"].tolist() for sample in client.items("t")]


def test_a_writer_goes_on_with_the_steps_that_it_knows(
    client: Client, restart: Restart, caplog: pytest.LogCaptureFixture
) -> None:
    # given a writer in the middle of a step, with a history
    with client.trajectory_writer(3) as writer, caplog.at_level(logging.WARNING, "kourou.replay"):
        for number in range(4):
            writer.append({"x": np.array(number), "y": np.full(2, -number)})
        writer.create_item("t", 1.0, {"x": writer.history["x"][-3:]})
        writer.flush()
        client.checkpoint()
        writer.append({"x": np.array(4)}, partial_step=True)
        # when its server is restarted
        restart()
        # then it does not even notice, whatever it does first
        writer.append({"y": np.full(2, -4)})
        writer.create_item("t", 1.0, {"x": writer.history["x"][-3:], "y": writer.history["y"][-3:]})
        writer.flush()
        restart()
        writer.create_item("t", 1.0, {"x": writer.history["x"][-2:]})
        restart()
        writer.append({"x": np.array(5), "z": np.array(True)})  # even with a column that is new
        writer.append({"x": np.array(6), "z": np.array(True)})
        writer.create_item("t", 1.0, {"x": writer.history["x"][-3:]})
        writer.create_item("t", 1.0, {"x": writer.history["x"][-2:], "z": writer.history["z"][-2:]})
        writer.flush()
        assert items(client) == [[1, 2, 3], [4, 5, 6], [5, 6]]
        # and it says what it lost: the one item that nobody had confirmed, unless somebody just had
        assert writer.lost_items <= 1
    assert "items on their way were lost" in caplog.text


def test_a_batch_writer_goes_on_with_the_steps_that_it_knows(client: Client, restart: Restart) -> None:
    with client.batch_writer(3, 2) as writer:
        writer.append({"x": np.arange(3)})
        restart()
        writer.append({"x": np.arange(3) + 10})
        keys = writer.create_items("t", 1.0, {"x": writer.history["x"][-2:]})
        restart()
        assert (writer.create_items("t", 1.0, {"x": writer.history["x"][-2:]}, [True, False, True]) > 0).sum() == 2
        writer.end_episodes()
        writer.append({"x": np.arange(3) + 20})
        assert not writer.create_items("t", 1.0, {"x": writer.history["x"][-2:]}).any()
        writer.create_items("t", 1.0, {"x": writer.history["x"][-1:]})
    assert (keys > 0).all()
    assert items(client)[-3:] == [[20], [21], [22]]


def test_inserts_find_the_new_server(client: Client, restart: Restart) -> None:
    first = client.insert_batch("t", {"x": np.arange(3)})
    client.checkpoint()
    restart()
    assert client.get("t", first).data["x"].tolist() == [0, 1, 2]
    restart()
    second = client.insert_batch("t", {"x": np.arange(3, 5)})
    assert items(client) == list(range(5))
    assert len({*first.tolist(), *second.tolist()}) == 5


def test_a_numbered_call_that_never_arrives_is_skipped(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a server that has no room for one message of a writer
    server = serve(table())
    client = connect(server)
    insert = server._service.insert
    refused = threading.Event()

    def overloaded(number: int, batch: InsertBatch, timeout_s: float | None = None) -> Any:
        if batch.order is not None and batch.items and not refused.is_set():
            refused.set()
            raise ServerOverloaded("full")
        return insert(number, batch, timeout_s)

    server._transport.bind("insert", overloaded)
    with client.trajectory_writer(1) as writer:
        writer.append({"x": np.array(1)})
        writer.create_item("t", 1.0, {"x": writer.history["x"][-1]})
        until(refused.is_set, 10)
        # when it goes on, then it hears of that, once
        writer.append({"x": np.array(2)})
        with pytest.raises(ServerOverloaded):
            writer.flush(timeout_s=10)
        # and what follows is not held up
        writer.create_item("t", 1.0, {"x": writer.history["x"][-1]})
        writer.flush(timeout_s=10)
    assert items(client) == [2]


def test_what_a_server_that_ended_never_confirmed_is_counted(client: Client, restart: Restart) -> None:
    # given a writer that was idle while its server was restarted
    with client.trajectory_writer(2) as writer:
        writer.append({"x": np.array(0)})
        writer.create_item("t", 1.0, {"x": writer.history["x"][-1]})
        writer.flush()
        restart()
        # when it makes items, and flushes
        for number in range(1, 6):
            writer.append({"x": np.array(number)})
            writer.create_item("t", 1.0, {"x": writer.history["x"][-1]})
        writer.flush()
        # then each of them is in, or counted
        assert len(items(client)) + writer.lost_items >= 5
        # and what comes now arrives
        lost = writer.lost_items
        writer.create_item("t", 1.0, {"x": writer.history["x"][-2:]})
        writer.flush()
        assert items(client)[-1] == [4, 5]
        assert writer.lost_items == lost


def test_what_was_on_its_way_when_a_writer_is_closed_is_counted(
    client: Client, restart: Restart, caplog: pytest.LogCaptureFixture
) -> None:
    writer = client.trajectory_writer(1)
    writer.append({"x": np.array(0)})
    writer.create_item("t", 1.0, {"x": writer.history["x"][-1]})
    writer.flush()
    restart()
    writer.create_item("t", 1.0, {"x": writer.history["x"][-1]})
    until(lambda: writer._outbox.pending_error() is not None, 10)  # it was sent after a moment, and refused
    writer.close()
    assert writer.lost_items == 1
    assert "was closed without a flush; 1 items on their way were lost" in caplog.text


def test_a_call_is_done_again_however_often_the_session_has_ended(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a server that takes its client for dead whenever it has opened a session, three times
    server = serve(table())
    client = connect(server)
    sessions, opened = server._service._sessions, server._service.open_session
    forgotten: list[int] = []

    def forget(*arguments: Any) -> Any:
        info = opened(*arguments)
        if len(forgotten) < 3:
            forgotten.append(info.name)
            sessions.close(info.name)
        return info

    server._transport.bind("open_session", forget)
    # when it inserts, then that is done once
    client.insert({"x": np.array(1)}, {"t": 1.0})
    assert items(client) == [1]
    assert len(forgotten) == 3
    # and one that never lasts is named
    forgotten.clear()
    monkeypatch.setattr("kourou.replay.client.client.RENEWALS", 2)
    sessions.close_all()
    sessions._closed = False
    with pytest.raises(ServerUnavailable, match="has ended 2 sessions"):
        client.insert({"x": np.array(2)}, {"t": 1.0})


def test_no_item_is_made_of_a_step_that_never_arrived(serve: Serve, connect: Connect) -> None:
    # given a server that has no room for one message of a writer, whose steps a later item needs
    server = serve(table())
    client = connect(server)
    insert = server._service.insert
    refused: list[int] = []

    def overloaded(number: int, batch: InsertBatch, timeout_s: float | None = None) -> Any:
        if batch.items and not refused:
            refused.append(len(batch.items))
            raise ServerOverloaded("full")
        return insert(number, batch, timeout_s)

    server._transport.bind("insert", overloaded)
    with client.trajectory_writer(8) as writer:
        for number in range(1, 4):
            writer.append({"x": np.array(number)})
        writer.create_item("t", 1.0, {"x": writer.history["x"][-3:]})
        with pytest.raises(ServerOverloaded):
            writer.flush(timeout_s=10)
        # when it makes that item
        writer.append({"x": np.array(4)})
        for _ in range(2):  # the first time, it may hear that it has to begin anew
            writer.create_item("t", 1.0, {"x": writer.history["x"][-4:]})
            writer.flush(timeout_s=10)
    # then it has all its steps
    assert items(client)[-1] == [1, 2, 3, 4]
    assert {tuple(found) for found in items(client)} == {(1, 2, 3, 4)}
    # and nothing is left of the series that ended
    client.reset("t")
    until(lambda: sum(store.used for store in server._data.stores) == 0, 10)
