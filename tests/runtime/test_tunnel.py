"""Connections that travel as messages, and the messages themselves."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kourou.runtime.host_agent import tunnel
from kourou.runtime.host_agent.loop import LoopThread
from kourou.runtime.host_agent.pipe_wire import Wire
from kourou.runtime.host_agent.tunnel import Tunnel
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")


class Echo:
    """A server that sends everything back; "bye" makes it hang up."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):  # the other side may hang up first
            while (data := connection.recv(1 << 16)) and data != b"bye":
                connection.sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepting, *self._threads):
            thread.join(WAIT_S)


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread("kourou-tunnel")
    yield thread
    thread.close()


@pytest.fixture
def entrance(echo: Echo, loop: LoopThread, tmp_path: Path) -> Iterator[Path]:
    """A UNIX socket that leads to the echo server, through both ends of a tunnel."""
    path = tmp_path / "in"
    exit_end = Tunnel(loop, lambda *piece: entrance_end.receive(*piece), exit_to=echo.address)  # noqa: PLW0108 - made below
    entrance_end = Tunnel(loop, exit_end.receive, entrance=path)
    yield path
    entrance_end.close()
    exit_end.close()


def connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(WAIT_S)
    connection.connect(str(path))
    return connection


def read_exactly(connection: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        parts += connection.recv(1 << 16)
    return parts


def count_to_end(connection: socket.socket) -> int:
    count = 0
    while data := connection.recv(1 << 20):
        count += len(data)
    return count


def test_connections_pass_side_by_side_and_end_at_both_ends(entrance: Path) -> None:
    with connected(entrance) as first, connected(entrance) as second:
        first.sendall(b"one")
        second.sendall(b"two" * 100_000)
        assert read_exactly(second, 300_000) == b"two" * 100_000
        assert read_exactly(first, 3) == b"one"
        # When the far end hangs up, then this one hears of it
        first.sendall(b"bye")
        assert first.recv(1) == b""
        # and the other goes on
        second.sendall(b"still here")
        assert read_exactly(second, 10) == b"still here"


def test_where_no_more_files_can_be_opened_the_far_end_hears_it(
    echo: Echo, loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> socket.socket:
        raise OSError("too many open files")

    sent: list[tuple[str, int, bytes]] = []
    exit_end = Tunnel(loop, lambda *piece: sent.append(piece), exit_to=echo.address)
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", refuse)
        exit_end.receive("open", 1, b"")
        loop.call(lambda: None)
    exit_end.close()
    assert sent == [("end", 1, b"")]


class Full:
    """A listener whose process has too many files open."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.asked = 0
        self.fileno, self.close = listener.fileno, listener.close

    def accept(self) -> object:
        self.asked += 1
        raise OSError("too many open files")


def test_and_who_calls_is_not_asked_for_without_a_pause(
    loop: LoopThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "_AGAIN_S", WAIT_S, raising=False)
    entrance_end = Tunnel(loop, lambda *_: None, entrance=tmp_path / "in")
    full = Full(entrance_end._listener)  # type: ignore[arg-type]
    entrance_end._listener = full  # type: ignore[assignment]
    with connected(tmp_path / "in"):
        until(lambda: full.asked, WAIT_S)
        for _ in range(20):
            loop.call(lambda: None)
    assert full.asked == 1
    entrance_end.close()


@pytest.mark.parametrize("own_port", [False, True])
def test_a_server_that_is_not_there_is_an_end(
    own_port: bool, loop: LoopThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given nobody where connections lead to, and perhaps a system that gives the client that very port
    connect_ex = socket.socket.connect_ex

    def connect_to_itself(client: socket.socket, address: tuple[str, int]) -> int:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(address)
        return connect_ex(client, address)

    if own_port:
        monkeypatch.setattr(socket.socket, "connect_ex", connect_to_itself)
    nobody = socket.create_server(("127.0.0.1", 0))
    address = nobody.getsockname()
    nobody.close()
    exit_end = Tunnel(loop, lambda *piece: entrance_end.receive(*piece), exit_to=address)  # noqa: PLW0108 - made below
    entrance_end = Tunnel(loop, exit_end.receive, entrance=tmp_path / "in")
    # When one connects, then that ends
    with connected(tmp_path / "in") as connection:
        assert connection.recv(1) == b""
    entrance_end.close()
    exit_end.close()


def test_when_the_other_end_is_gone_connections_end_once_what_it_said_is_taken(loop: LoopThread) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        exit_end = Tunnel(loop, lambda *_: None, exit_to=listener.getsockname())
        exit_end.receive("open", 1, b"")
        exit_end.receive("open", 2, b"")
        first, second = listener.accept()[0], listener.accept()[0]
        with first, second:
            # Given more than a socket takes for one of two connections, and no room for what they would say
            exit_end.receive("data", 1, b"x" * (16 << 20))
            exit_end.pause(paused=True)
            # When
            exit_end.finish()
            # Then
            assert sorted(map(count_to_end, (first, second))) == [0, 16 << 20]
        exit_end.close()


@pytest.fixture
def wires() -> Iterator[tuple[Wire, Wire]]:
    """Both ends of a wire, the first of which hears how much of what it says has arrived."""
    there, back = os.pipe(), os.pipe()
    ends = Wire(back[0], there[1]), Wire(there[0], back[1])
    listening = threading.Thread(target=lambda: list(heard(ends[0])))
    listening.start()
    yield ends
    os.close(there[0])  # what is still written to nobody ends with an error
    for end in ends:
        assert end.end(WAIT_S)
    for fd in (there[1], back[1]):
        os.close(fd)
    listening.join()
    os.close(back[0])


def heard(end: Wire) -> Iterator[tuple[Any, ...]]:
    """What an end hears, one message after the other."""
    while (messages := end.receive()) is not None:
        yield from messages


def test_messages_arrive_whole_and_in_order(wires: tuple[Wire, Wire]) -> None:
    one, other = wires

    def send() -> None:
        for number in range(100):
            one.send("piece", number, b"x" * 100_000)

    sender = threading.Thread(target=send)
    sender.start()
    received = list(itertools.islice(heard(other), 100))
    sender.join()
    assert received == [("piece", number, b"x" * 100_000) for number in range(100)]


def test_what_login_scripts_print_is_skipped(wires: tuple[Wire, Wire]) -> None:
    one, other = wires
    one._write(b"Welcome!\nkourou-agent\n")
    one.greet()
    one.send("hello")
    assert other.skip_preamble()
    assert next(heard(other)) == ("hello",)


def test_an_end_that_falls_silent_in_a_message_is_silent(wires: tuple[Wire, Wire]) -> None:
    one, other = wires
    one._write(b"\x10" + bytes(7) + b"half")
    assert list(other.receive() or ()) == []
    assert not other.is_readable(0.05)


def test_nobody_writes_to_an_end_that_was_closed(wires: tuple[Wire, Wire]) -> None:
    one, other = wires
    one.send("before")
    assert next(heard(other)) == ("before",)
    assert one.end(1.0)
    one.send("after")
    assert not other.is_readable(0.05)


def test_who_sends_does_not_wait_for_the_network_and_is_told_when_much_waits(wires: tuple[Wire, Wire]) -> None:
    # Given an end that nobody reads
    one, other = wires
    told: list[bool] = []
    one.session.on_full = told.append
    # When far more is sent than a pipe holds
    for number in range(200):
        one.send("line", number, b"x" * 100_000)
    # Then whoever sends is told, and could wait for room
    assert told == [True]
    bulk = threading.Thread(target=one.send_bulk, args=("bulk",))
    bulk.start()
    # and what others wait for overtakes it
    one.send_first("urgent")
    # When it is read, then all of it arrives, in order
    received = []
    for message in heard(other):
        received.append(message)
        if message == ("bulk",):
            break
    bulk.join()
    assert ("urgent",) in received[:4]
    received += itertools.islice(heard(other), 202 - len(received))
    assert [message[1] for message in received if message[0] == "line"] == list(range(200))
    assert told == [True, False]


def test_an_end_shows_life_now_and_then_whatever_else_it_says(wires: tuple[Wire, Wire]) -> None:
    one, other = wires
    one.keep_alive(0.01)
    for _ in range(3):
        assert other.is_readable(WAIT_S)
        assert list(other.receive() or ()) == []


def test_who_waits_for_room_is_let_go_where_the_other_end_is_gone() -> None:
    reader, writer = os.pipe()
    wire = Wire(reader, writer)
    for number in range(100):
        wire.send("line", number, b"x" * 100_000)
    bulk = threading.Thread(target=wire.send_bulk, args=("bulk",))
    bulk.start()
    os.close(reader)  # of what it writes to
    bulk.join(WAIT_S)
    assert not bulk.is_alive()
    assert wire.end(WAIT_S)
    os.close(writer)


def test_or_takes_nothing_when_this_one_ends(wires: tuple[Wire, Wire]) -> None:
    # Given an end in the middle of a write, to one that is there and reads nothing
    one, _ = wires
    for number in range(100):
        one.send("line", number, b"x" * 100_000)
    bulk = threading.Thread(target=one.send_bulk, args=("bulk",), daemon=True)
    bulk.start()
    # When
    assert not one.end(0.0)
    # Then
    bulk.join(10.0)
    assert not bulk.is_alive()


def test_what_is_told_last_of_much_that_waits_is_what_holds(wires: tuple[Wire, Wire]) -> None:
    # Given an end of whose messages some are read while it is still being told that much waits
    one, other = wires
    told: list[bool] = []
    received: list[tuple[Any, ...]] = []

    def on_full(full: bool) -> None:
        while full and other.is_readable(0.1):
            received.extend(other.receive() or ())
        told.append(full)

    one.session.on_full = on_full
    # When more is sent than may wait
    for number in range(100):
        one.send("line", number, b"x" * 100_000)
    received.extend(itertools.islice(heard(other), 100 - len(received)))
    # Then that there is room is told after that there was none
    until(lambda: len(told) == 2, 10)
    assert told == [True, False]


def test_a_connection_that_takes_nothing_holds_up_no_other_and_ends_when_it_would_fill_the_memory(
    entrance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a connection that sends much, which comes back, and reads nothing of it
    monkeypatch.setattr(tunnel, "_MOST_WAITING_BYTES", 1 << 20)
    with connected(entrance) as stuck, connected(entrance) as other:
        stuck.settimeout(0.5)
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                stuck.sendall(b"x" * 100_000)
        # When, then another one is answered all the same
        other.sendall(b"still here")
        assert read_exactly(other, 10) == b"still here"
        # and the first one has ended
        with contextlib.suppress(ConnectionResetError):
            while stuck.recv(1 << 20):
                pass


def test_what_was_sent_before_the_end_arrives(loop: LoopThread, tmp_path: Path) -> None:
    # Given a server that sends much and hangs up
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"x" * 3_000_000)

    serving = threading.Thread(target=serve)
    serving.start()
    exit_end = Tunnel(loop, lambda *piece: entrance_end.receive(*piece), exit_to=server.getsockname())  # noqa: PLW0108 - below
    entrance_end = Tunnel(loop, exit_end.receive, entrance=tmp_path / "in")
    # When somebody reads that late
    with connected(tmp_path / "in") as connection:
        serving.join(WAIT_S)
        # Then
        assert len(read_exactly(connection, 3_000_000)) == 3_000_000
        assert connection.recv(1) == b""
    entrance_end.close()
    exit_end.close()
    server.close()


def test_a_tunnel_that_is_held_reads_no_more_until_it_may(echo: Echo, loop: LoopThread, tmp_path: Path) -> None:
    sent: list[tuple[str, int, bytes]] = []
    entrance = Tunnel(loop, lambda *piece: sent.append(piece), entrance=tmp_path / "in")
    with connected(tmp_path / "in") as connection:
        until(lambda: len(sent) == 1, WAIT_S)
        entrance.pause(True)
        entrance.receive("data", 1, b"told")  # what comes from the other end is passed on
        assert read_exactly(connection, 4) == b"told"
        connection.sendall(b"later")
        entrance.receive("data", 1, b"and again")
        assert read_exactly(connection, 9) == b"and again"
        assert len(sent) == 1
        entrance.pause(False)
        until(lambda: sent[-1] == ("data", 1, b"later"), WAIT_S)
    entrance.close()
