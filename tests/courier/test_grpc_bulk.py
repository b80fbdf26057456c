"""The gRPC lane's second stream: bulk that holds nobody up, and a server that takes no more."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import psutil
import pytest

from kourou import courier
from kourou.courier import Client, Server, new_token
from kourou.courier.wire import codec
from kourou.errors import CallCancelled, DeadlineExceeded
from polling import until

pytestmark = pytest.mark.usefixtures("no_leaks")

SERVER = """
import sys
from kourou.courier import Server
server = Server(token=sys.argv[1])
server.bind("echo", lambda value: value)
server.bind("size", len)
server.start()
print(server.address, flush=True)
sys.stdin.read()
server.stop()
"""


class Weights:
    """What is called."""

    def __init__(self):
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def echo(self, value):
        return value

    def large(self):
        return np.ones(1 << 20, np.uint8)

    def block(self):
        self.asked.set()
        self.go_on.wait()
        return "released"

    def many(self, count):
        for _ in range(count):
            yield np.ones(1 << 20, np.uint8)


@pytest.fixture
def weights():
    return Weights()


@pytest.fixture
def server(weights, no_leaks):
    with Server(token=new_token()) as server:
        server.bind_object(weights)
        yield server
        weights.go_on.set()


@pytest.fixture
def client(server):
    with Client(server.address, token=server.token, lane="grpc", timeout_s=20) as client:
        yield client


def streams(client):
    wire: Any = client._link.connection.transport
    return wire._streams


def test_only_bulk_takes_the_second_stream(client):
    # Given a client that has made small calls only: it has one stream
    assert client.echo(1) == 1
    assert len(streams(client)) == 1
    # When it sends something large, then it has two, and small calls go on
    assert client.echo(b"x" * 2_000_000) == b"x" * 2_000_000
    assert len(streams(client)) == 2
    assert client.echo(2) == 2


def test_a_method_with_large_answers_takes_it_the_next_time(client):
    # Given a method whose answer alone is large
    wire: Any = client._link
    assert client.large().size == 1 << 20
    assert len(streams(client)) == 1
    # When it is called again, then its answers come by the second stream, as bulk and as items
    assert client.large().size == 1 << 20
    assert len(streams(client)) == 2
    assert sum(item.size for item in client.many(5)) == sum(item.size for item in client.many(5)) == 5 << 20
    # Then nothing is remembered of calls that were answered
    assert not wire.connection.transport._methods
    assert not wire.connection.transport._on_bulk


@pytest.mark.parametrize("attempt", range(3))
def test_a_thread_that_already_reads_hears_of_the_second_stream(client, weights, attempt):
    # Given a thread that waits, on the only stream, for an answer that does not come
    found = []
    waiting = threading.Thread(target=lambda: found.append(client.block()))
    waiting.start()
    assert weights.asked.wait(10)
    # When another thread makes a large call, whose answer comes by a new stream, then it is read
    assert client.echo(b"x" * 2_000_000) == b"x" * 2_000_000
    weights.go_on.set()
    waiting.join(10)
    assert found == ["released"]


def test_calls_on_the_second_stream_can_be_given_up(client):
    # Given a method that is known to have large answers
    client.large()
    client.large()
    # When a large call is cancelled, or its time is up
    future = client.futures.echo(b"x" * 2_000_000)
    future.cancel()
    with pytest.raises(DeadlineExceeded):
        courier.with_options(client, timeout_s=1e-4).echo(b"x" * 2_000_000)
    # Then both streams serve on, and the server has forgotten the calls
    assert client.echo(b"y" * 2_000_000) == b"y" * 2_000_000
    assert client.echo(1) == 1


def test_small_calls_go_on_while_bulk_is_under_way(client):
    # Given bulk that is being sent to and fro
    value = np.zeros(64 << 20, np.uint8)
    client.echo(value)
    bulk = threading.Thread(target=lambda: [client.echo(value) for _ in range(3)])
    bulk.start()
    # When small calls are made meanwhile
    calls = 0
    while bulk.is_alive():
        assert client.echo(calls) == calls
        calls += 1
    bulk.join()
    # Then many of them are answered: behind the bulk there would be two for each transfer
    assert calls > 12


@pytest.mark.parametrize("size", [200, 40_000, 2_000_000])
def test_a_server_that_takes_no_more_stops_its_clients_and_not_their_memory(size):
    # Given a server that has stopped reading
    token = new_token()
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, token], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        client = Client(process.stdout.readline().strip(), token=token, lane="grpc", timeout_s=50)
        assert client.size(b"x" * size) == size
        assert client.size(b"x" * size) == size
        process.send_signal(signal.SIGSTOP)
        # When threads send it more than any memory holds
        flood = Flood(client, b"x" * size)
        gc.collect()
        before = psutil.Process().memory_info().rss
        flood.start()
        flood.until_it_stands_still()
        # Then they wait, and what waits with them is little
        assert psutil.Process().memory_info().rss - before < 150 << 20
        # And when it reads again, all that was sent is answered
        flood.enough.set()
        process.send_signal(signal.SIGCONT)
        flood.join()
        assert all(future.result() == size for future in flood.futures)
        courier.close(client)
        process.communicate()


class Flood:
    """Threads that send and send."""

    def __init__(self, client, value):
        self.enough = threading.Event()
        self.futures = []
        self._client, self._value = client, value
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def start(self):
        for thread in self._threads:
            thread.start()

    def join(self):
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)

    def until_it_stands_still(self):
        """Nothing was sent between fifty looks one after the other."""
        seen, same = -1, 0

        def still():
            nonlocal seen, same
            same = same + 1 if len(self.futures) == seen else 0
            seen = len(self.futures)
            return same >= 50

        until(still, 40)

    def _run(self):
        while not self.enough.is_set():
            self.futures.append(self._client.futures.size(self._value))


def test_bulk_is_received_where_the_caller_wants_it(server):
    # given a client that has a place for the third of four arrays
    place, asked = bytearray(b"\1" * (1 << 20)), []

    def memory(body, size):
        asked.append((codec.decode(body, [bytearray(size)]).nbytes, size))
        return memoryview(place if len(asked) == 3 else bytearray(size))

    with Client(server.address, token=server.token, lane="grpc", memory=memory, timeout_s=20) as client:
        # when they come, then that one is there, and the others are not
        arrays = list(client.many(4))
    assert asked == [(1 << 20, 1 << 20)] * 4
    assert [np.shares_memory(array, np.frombuffer(place, np.uint8)) for array in arrays] == [False, False, True, False]
    assert all((array == 1).all() for array in arrays)


def test_nobody_writes_where_bulk_was_to_be_received_when_the_client_is_closed(server):
    # given a thread that is about to receive
    asked, go_on = threading.Event(), threading.Event()

    def memory(_, size):
        asked.set()
        go_on.wait()
        return memoryview(bytearray(size))

    closed = Client(server.address, token=server.token, lane="grpc", memory=memory)

    def take():
        with pytest.raises(CallCancelled):
            list(closed.many(4))

    taker = threading.Thread(target=take)
    taker.start()
    asked.wait()
    # when the client is closed, then that takes until the thread is done with it
    closer = threading.Thread(target=courier.close, args=[closed])
    closer.start()
    closer.join(0.1)
    assert closer.is_alive()
    go_on.set()
    closer.join()
    taker.join()
