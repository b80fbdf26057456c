"""The threads that read connections, and run handlers themselves until one of them blocks."""

from __future__ import annotations

import errno
import socket
import threading
from typing import Any

import pytest

from kourou import courier
from kourou.courier import Client, Server
from kourou.courier.calling.transport import Transport
from kourou.courier.lanes.http2.framing import Http2
from kourou.courier.lanes.local.connection import LocalConnection
from kourou.courier.lanes.loop import event_loop
from kourou.courier.lanes.loop.acceptor import Acceptor, ServedConnection
from kourou.courier.serving.workers import WorkerPool
from kourou.errors import ConnectionLost, ProtocolError
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")


class Chain:
    """Its second method frees the first, its third the second, so each must be served while the ones before block."""

    def __init__(self):
        self.entered_first, self.entered_second = threading.Event(), threading.Event()
        self.leave_first, self.leave_second = threading.Event(), threading.Event()

    def first(self):
        self.entered_first.set()
        self.leave_first.wait()

    def second(self):
        self.leave_first.set()
        self.entered_second.set()
        self.leave_second.wait()

    def third(self):
        self.leave_second.set()
        return "served"


@pytest.mark.parametrize("lane", ["local", "grpc"])
@pytest.mark.parametrize("attempt", range(5))
def test_a_thread_that_was_replaced_does_not_hide_that_its_successor_is_stuck(lane, attempt):
    # Given a server whose event loop blocks in a handler
    chain = Chain()
    with Server() as server:
        server.bind_object(chain)
        client = Client(f"127.0.0.1:{server.port}", token=server.token, lane=lane)
        first = client.futures.first()
        first.add_done_callback(lambda _: None)
        assert chain.entered_first.wait(20)
        # When its successor frees it and then blocks as well
        second = client.futures.second()
        second.add_done_callback(lambda _: None)
        assert chain.entered_second.wait(20)
        # Then a third call is served all the same
        assert courier.with_options(client, timeout_s=20).third() == "served"
        first.result(20)
        second.result(20)
        courier.close(client)


def test_a_socket_that_is_added_while_the_loop_looks_at_the_others_is_served(monkeypatch):
    # Given a server's event loop that is given its second socket in the midst of looking at its sockets
    pool = WorkerPool(1, 1, "test")
    accepted = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        loops: list[event_loop.EventLoop] = []

        class Interrupted(Acceptor):
            @property
            def is_paused(self):
                if loops and threading.current_thread() is not threading.main_thread():
                    loops.pop().listen(second, accept)
                return self.__dict__["is_paused"]

            @is_paused.setter
            def is_paused(self, value):
                self.__dict__["is_paused"] = value

        def accept(connection, _ready, _thread):
            connection.close()
            accepted.set()

        monkeypatch.setattr(event_loop, "Acceptor", Interrupted)
        loop = event_loop.EventLoop(pool)
        try:
            loop.listen(first, lambda connection, _ready, _thread: connection.close())
            loops.append(loop)
            # When clients connect to both
            with socket.create_connection(first.getsockname()):
                until(lambda: not loops, 20)
            with socket.create_connection(second.getsockname()):
                # Then the loop has not died of it
                assert accepted.wait(20)
        finally:
            loop.stop()


def test_a_loop_that_finds_no_thread_to_replace_its_own_tries_again(monkeypatch):
    # Given a server on a system that has no thread to spare when a handler blocks
    refused: list[event_loop.EventLoop] = []
    start = event_loop.EventLoop._start_thread

    def refuse_once(loop):
        if loop._unmanned and not refused:
            refused.append(loop)
            raise RuntimeError("can't start new thread")
        start(loop)

    monkeypatch.setattr(event_loop.EventLoop, "_start_thread", refuse_once)
    chain = Chain()
    with Server(token="t") as server, Client(server.address, token="t", lane="grpc", timeout_s=20) as client:
        server.bind_object(chain)
        # When one blocks, and another call comes that frees it
        first, second = client.futures.first(), client.futures.second()
        first.add_done_callback(lambda _: None)
        # Then that call, and one more, are served, since there was a thread a moment later
        assert client.third() == "served"
        assert second.result(20) is None
        assert refused


def test_a_client_whose_answers_cannot_be_written_costs_no_other_anything(monkeypatch):
    # Given a server that has no memory for what it writes next
    send, short = LocalConnection._send, [None]

    def sent(connection, data):
        if short:
            short.pop()
            raise MemoryError
        send(connection, data)

    with Server(token="t") as server, Client(server.address, token="t", lane="local", timeout_s=20) as second:
        server.bind("echo", lambda value: value)
        assert second.echo(0) == 0
        monkeypatch.setattr(LocalConnection, "_send", sent)
        with Client(server.address, token="t", lane="local", timeout_s=20) as first:
            # When, then: one client's connection ends
            with pytest.raises(ConnectionLost):
                first.echo(1)
            # and the others are served as before
            assert second.echo(2) == 2
            assert first.echo(3) == 3


def test_a_socket_that_the_system_could_not_watch_is_watched_later():
    # Given a system that can watch no more sockets
    class Full:
        def __init__(self):
            self.watched = []

        def register(self, fd, _):
            if not self.watched:
                self.watched.append(-1)
                raise OSError(errno.ENOSPC, "no space left on device")
            self.watched.append(fd)

    poller: Any = Full()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # When it is to watch one where clients come in
        acceptor = Acceptor(listener, lambda *_: None, poller)
        assert acceptor.is_paused
        # Then it does so when it can
        acceptor.resume()
        assert not acceptor.is_paused
        assert poller.watched == [-1, listener.fileno()]


def test_a_client_that_cannot_be_watched_is_let_go_of(monkeypatch):
    # Given a server that makes a connection, and cannot watch its socket
    closed = threading.Event()

    class Connection:
        descriptor = 1 << 20  # which is open nowhere

        def close(self):
            closed.set()

    made: Any = Connection
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = event_loop.EventLoop(WorkerPool(1, 1, "test"))
        try:
            loop.listen(listener, lambda *_: made())
            # When, then
            with socket.create_connection(listener.getsockname()):
                assert closed.wait(20)
        finally:
            loop.stop()


def test_a_refusal_that_fails_ends_the_connection_and_not_the_loop():
    # Given a client that is to be refused, and cannot be told so
    closed = threading.Event()

    class Connection:
        descriptor, is_authenticated, frames, is_congested = -1, False, (), False

        def __init__(self, accepted):
            self.accepted = accepted
            self.descriptor = accepted.fileno()

        def read_greeting(self):
            raise ProtocolError("nonsense")

        def refuse(self, _):
            raise MemoryError

        def close(self):
            self.accepted.close()
            closed.set()

    made: Any = Connection
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = event_loop.EventLoop(WorkerPool(1, 1, "test"))
        try:
            loop.listen(listener, lambda accepted, *_: made(accepted))
            for _ in range(2):
                # When, then
                with socket.create_connection(listener.getsockname()) as client:
                    client.sendall(b"x")
                    assert closed.wait(20)
                closed.clear()
        finally:
            loop.stop()


@pytest.mark.parametrize("kind", [Transport, ServedConnection, Http2])
def test_a_lane_s_end_that_lacks_a_method_cannot_be_made(kind: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (kind,), {})()
