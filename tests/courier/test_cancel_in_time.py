"""Calls that are cancelled while they are on their way to the server."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest

from kourou import courier
from kourou.courier import Client, Server, current_call
from kourou.courier.wire.frames import Kind
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")
LANES = ["inproc", "local", "grpc"]


class Slow:
    """Has a method that ends when its call is cancelled."""

    def __init__(self):
        self.entered, self.cancelled = threading.Event(), threading.Event()

    def block(self):
        self.entered.set()
        if current_call().cancelled.wait(20):
            self.cancelled.set()

    def ping(self):
        return "pong"


class LateTarget:
    """A node that is found only when the test says so."""

    name = "late"
    token = "t"

    def __init__(self, server):
        self.server = server
        self.asked, self.found = threading.Event(), threading.Event()

    def endpoint(self, timeout_s):
        self.asked.set()
        assert self.found.wait(20)
        return self.server.endpoint

    def lost(self, endpoint):
        raise AssertionError("nothing breaks here")


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def server(slow):
    with Server(token="t") as server:
        server.bind_object(slow)
        yield server


@pytest.mark.parametrize("lane", LANES)
def test_a_call_cancelled_while_its_client_connects_is_never_sent(server, slow, lane):
    # Given a client whose very first call waits for the connection
    target = LateTarget(server)
    client = Client(target, lane=lane)
    future = client.futures.block()
    assert target.asked.wait(20)
    # When the call is cancelled before the server is found
    assert future.cancel()
    target.found.set()
    # Then the handler never hears of it
    assert client.ping() == "pong"
    assert client.futures.ping().result(20) == "pong"
    assert not slow.entered.is_set()
    courier.close(client)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_call_cancelled_around_its_sending_is_cancelled_at_the_server(server, slow, lane, late):
    # Given a connection on which another thread cancels a call just before or just after it is sent
    client = Client(server.address, token="t", lane=lane)
    client.ping()
    connection: Any = client._link.connection
    send = connection.transport.send

    def interfering(frame, **options):
        reply = connection._pending.get(frame.call_id)
        if late:
            send(frame, **options)
        if frame.kind == Kind.CALL and reply.method == "block":
            canceller = threading.Thread(target=reply.cancel)
            canceller.start()
            canceller.join(20)
        if not late:
            send(frame, **options)

    connection.transport.send = interfering
    # When it is called
    future = client.futures.block()
    # Then it is cancelled on both ends, and not only here
    assert future.cancelled()
    until(lambda: server.metrics()["block"].in_flight == 0, 20, "the call is gone at the server")
    assert not slow.entered.is_set() or slow.cancelled.wait(20)
    courier.close(client)


@pytest.mark.parametrize("lane", LANES)
def test_a_call_that_expires_while_its_client_connects_is_never_sent(server, slow, lane):
    # Given a call whose client still looks for its server
    target = LateTarget(server)
    client = Client(target, lane=lane)
    future = courier.with_options(client, timeout_s=0.05).futures.block()
    assert target.asked.wait(20)
    # When its deadline passes first
    assert isinstance(future.exception(20), TimeoutError)
    target.found.set()
    # Then the handler never hears of it
    assert client.ping() == "pong"
    assert not slow.entered.is_set()
    courier.close(client)


@pytest.mark.parametrize("lane", LANES)
def test_a_thread_whose_call_another_one_cancels_waits_no_more(server, slow, lane):
    # Given a thread that waits for an answer, with nobody else on the connection
    client = Client(server.address, token="t", lane=lane)
    client.ping()
    future = client.futures.block()
    ended = []

    def wait():
        try:
            future.result()
        except BaseException as error:
            ended.append(type(error).__name__)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert slow.entered.wait(20)
    # When another thread cancels the call
    assert future.cancel()
    # Then the first one learns of it
    waiter.join(20)
    assert ended == ["CancelledError"]
    courier.close(client)


@pytest.mark.parametrize("lane", ["local", "grpc"])
def test_it_does_so_though_the_server_answers_before_the_other_thread_goes_on(server, slow, lane, monkeypatch):
    # Given a thread that reads, and another one that is held up when it has told the server of the cancellation
    client = Client(server.address, token="t", lane=lane)
    client.ping()
    future = client.futures.block()
    connection: Any = client._link.connection
    send = connection.send_quietly

    def send_and_pause(frame):
        reads = connection._reader.reads
        send(frame)
        until(lambda: connection._reader.reads > reads, 10)

    monkeypatch.setattr(connection, "send_quietly", send_and_pause)
    ended = []

    def wait():
        with pytest.raises(CancelledError):
            future.result()
        ended.append(True)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert slow.entered.wait(20)
    until(connection._reader._turn.locked, 10)
    # When it cancels the call that the first one waits for
    assert future.cancel()
    # Then that one learns of it
    waiter.join(20)
    assert ended == [True]
    courier.close(client)
