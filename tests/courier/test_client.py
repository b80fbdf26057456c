"""What a client promises about connecting, repeating, waiting and being copied."""

import asyncio
import concurrent.futures
import datetime
import inspect
import logging
import re
import subprocess
import sys
import threading
import time
from collections import deque
from typing import Any

import numpy as np
import pytest

from kourou import courier
from kourou.courier import AddressTarget, Client, Server
from kourou.courier.calling import connect_deadline
from kourou.courier.calling.reply import Reply
from kourou.courier.lanes import inproc
from kourou.courier.serving.stream_sender import AsyncGeneratorSender
from kourou.errors import (
    CallCancelled,
    ConnectionLost,
    DeadlineExceeded,
    NodeExited,
    ServerUnavailable,
    UnknownMethod,
)
from polling import WAIT_S, until

pytestmark = pytest.mark.usefixtures("no_leaks")
LANES = ["inproc", "local", "grpc"]


class FakeTarget:
    """A node whose place and fate the test decides."""

    name = "learner/0"
    token = "t"

    def __init__(self):
        self.found = None
        self.asked = 0
        self.reason = ConnectionLost("learner/0 broke")

    def endpoint(self, timeout_s):
        self.asked += 1
        if self.found is None:
            raise ServerUnavailable("learner/0 is not up")
        return self.found

    def lost(self, endpoint):
        return self.reason


def test_a_client_waits_for_a_server_and_futures_do_not_block(server):
    target = FakeTarget()
    client = Client(target)
    futures = [client.futures.echo(number) for number in range(5)]
    assert not any(future.done() for future in futures)
    target.found = server.endpoint
    assert [future.result(20) for future in futures] == list(range(5))
    courier.close(client)


def test_functions_do_what_type_checkers_do_not_know_of_clients(server):
    with courier.closing(Client(server.address, token="t")) as client:
        assert courier.futures(client) is client.futures
        assert courier.futures(client).echo(1).result(20) == 1
    with pytest.raises(CallCancelled):
        client.echo(2)
    with pytest.raises(TypeError, match="takes a client"):
        courier.futures(server)


def test_a_client_that_does_not_wait_fails_at_once():
    client = Client(FakeTarget(), wait_for_ready=False)
    with pytest.raises(ServerUnavailable, match="not up"):
        client.null()
    nobody = Client("127.0.0.1:1", token="t", wait_for_ready=False)
    with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
        nobody.null()


def test_waiting_ends_at_the_deadline_and_warns(monkeypatch, caplog):
    monkeypatch.setattr(connect_deadline, "PATIENCE_S", 0.05)
    client = Client(FakeTarget(), timeout_s=datetime.timedelta(milliseconds=300))
    with caplog.at_level(logging.WARNING, "kourou.courier"), pytest.raises(DeadlineExceeded, match="learner/0"):
        client.null()
    assert "still waiting for learner/0" in caplog.text


@pytest.mark.parametrize("lane", LANES)
def test_a_restarted_server_is_found_again(lane):
    target = FakeTarget()
    with Server(token="t") as first:
        first.bind("who", lambda: 1)
        target.found = first.endpoint
        client = Client(target, lane=lane, timeout_s=20)
        assert client.who() == 1
    with Server(token="t") as second:
        second.bind("who", lambda: 2)
        target.found = second.endpoint

        def who():
            try:
                return client.who()
            except ConnectionLost:  # noticed only by the call: it may have run, so it is not repeated
                return client.who()

        assert who() == 2
        courier.close(client)


@pytest.mark.parametrize("lane", LANES)
def test_what_a_server_without_a_refusal_leaves_unanswered_ends_for_the_targets_reason(lane):
    # Given calls that are under way, of each kind, and one that waits for a thread
    begun, told = threading.Semaphore(0), threading.Semaphore(0)

    def block():
        begun.release()
        assert courier.current_call().cancelled.wait(20)
        told.release()

    async def pause():
        begun.release()
        try:
            await asyncio.sleep(20)
        finally:
            told.release()

    def rows():
        yield 1
        block()

    target = FakeTarget()
    target.reason = NodeExited("learner/0 has ended")
    server = Server(token="t", thread_pool_size=2, refusal=lambda _: None)
    for method in (block, pause, rows):
        server.bind(method.__name__, method)
    server.start()
    target.found = server.endpoint
    client = Client(target, lane=lane, timeout_s=20)
    stream = client.rows()
    assert next(stream) == 1
    waiting = [client.futures.block(), client.futures.pause(), client.futures.block()]
    for _ in range(3):
        assert begun.acquire(timeout=20)
    # When the server stops, then its handlers are told, and clients hear what their target knows
    server.stop(grace_s=0)
    for future in waiting:
        with pytest.raises(NodeExited, match="learner/0 has ended"):
            future.result(20)
    with pytest.raises(NodeExited, match="learner/0 has ended"):
        next(stream)
    for _ in range(3):
        assert told.acquire(timeout=20)
    courier.close(client)


def test_who_found_a_server_before_it_stopped_and_connects_after_it_is_told(monkeypatch):
    # Given a client that is held up between finding the server and connecting
    target, dial = FakeTarget(), inproc.dial
    target.reason = NodeExited("learner/0 has ended")
    server = Server(token="t")
    server.bind("null", lambda: None)
    server.start()
    target.found = server.endpoint

    def dial_late(*args, **kwargs):
        transport = dial(*args, **kwargs)
        server.stop()
        target.found = None
        return transport

    monkeypatch.setattr(inproc, "dial", dial_late)
    client = Client(target, lane="inproc", wait_for_ready=False)
    # Then it does not stay with a server that only refuses
    with pytest.raises(ServerUnavailable, match="is not up"):
        client.null()
    courier.close(client)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("answered", [True, False])
def test_a_server_that_is_known_to_be_gone_gets_no_more_calls_though_it_may_answer_those_it_has(lane, answered):
    # Given a server that lives on after its node was lost, and a call that it has not answered
    target, gate = FakeTarget(), threading.Event()
    target.reason = NodeExited("learner/0 was lost with its host")
    with Server(token="t") as former, Server(token="t") as present:
        former.bind("who", lambda: gate.wait(20) and 1)
        present.bind("who", lambda: 2)
        target.found = former.endpoint
        with Client(target, lane=lane, timeout_s=20) as client:
            waiting = client.futures.who()
            until(lambda: former.metrics()["who"].in_flight == 1, 20, "the handler runs")
            # When
            target.found = present.endpoint
            courier.give_up(client, former.endpoint, after_s=20 if answered else 0)
            # Then
            assert client.who() == 2
            if answered:
                gate.set()
                assert waiting.result(20) == 1
            else:
                with pytest.raises(NodeExited, match="was lost"):
                    waiting.result(20)
                gate.set()


@pytest.mark.parametrize("lane", ["local", "grpc"])
@pytest.mark.parametrize("idempotent", [False, True])
def test_calls_are_repeated_only_on_request(lane, idempotent):
    target = FakeTarget()
    entered = threading.Event()
    runs = []

    def slow():
        runs.append(1)
        entered.set()
        release.wait(20)
        return "first"

    release = threading.Event()
    first = Server(token="t")
    first.bind("slow", slow)
    first.start()
    target.found = first.endpoint
    client = Client(target, lane=lane, timeout_s=20, idempotent=idempotent)
    future = client.futures.slow()
    assert entered.wait(20)
    with Server(token="t") as second:
        second.bind("slow", lambda: "second")
        target.found = second.endpoint
        cut(first)
        if idempotent:
            assert future.result(20) == "second"
        else:
            assert type(future.exception(20)) is ConnectionLost
        release.set()
        first.stop()
        courier.close(client)
    assert len(runs) == 1


def cut(server):
    """Break the connections as a crash would, without answering what is open."""
    loop = server._event_loop
    for connection in list(loop._connections.values()):
        loop._drop(connection)


def test_the_target_says_why_a_connection_broke(server):
    target = FakeTarget()
    target.found = server.endpoint
    target.reason = NodeExited("learner/0 exited with code 3; log: x")
    gate = threading.Event()
    server.bind("wait", lambda: gate.wait(20))
    client = Client(target, lane="local")
    future = client.futures.wait()
    until(lambda: server.metrics()["wait"].in_flight == 1, 20, "the handler runs")
    cut(server)
    with pytest.raises(NodeExited, match="code 3"):
        future.result(20)
    gate.set()
    courier.close(client)


def test_attributes(server):
    client = Client(server.address, token="t")
    assert hasattr(client, "anything")
    assert not hasattr(client, "_private")
    assert not hasattr(client.futures, "_private")
    assert courier.address(client) == server.address
    with pytest.raises(UnknownMethod, match=r"courier\.close\(client\) closes the client"):
        client.close()
    assert repr(client) == f"<client of {server.address}>"
    courier.close(client)


@pytest.mark.parametrize(
    "timeout", [-1, float("nan"), float("inf"), datetime.timedelta(seconds=-1), "3", [1], 1e300, 10**400], ids=range(8)
)
def test_odd_timeouts(timeout):
    with pytest.raises(ValueError, match="time-out"):
        Client("h:1", timeout_s=timeout)


@pytest.mark.parametrize("lane", ["grpc", "local"])
def test_a_time_out_may_be_one_of_years(lane):
    # given a call that takes longer than its caller looks for the answer without a wait of the system
    server = Server(token="t")
    server.bind("work", lambda: time.sleep(0.1))
    server.start()
    client = Client(server.address, token="t", lane=lane, timeout_s=1e9)
    # then
    assert client.work() is None
    courier.close(client)
    server.stop()


def test_a_time_out_may_be_a_number_of_numpys(server):
    client = Client(server.address, token="t", timeout_s=np.float32(WAIT_S))
    assert courier.list_methods(client, timeout_s=np.float32(WAIT_S))
    with pytest.raises(UnknownMethod):
        client.nothing()
    courier.close(client)


@pytest.mark.parametrize("address", ["", "host", "host:", ":1", "host:x", "host:99999999", "host:\u0661"])
def test_odd_addresses(address):
    with pytest.raises(ValueError, match="host:port"):
        AddressTarget(address)


def test_a_lane_that_does_not_exist():
    with pytest.raises(ValueError, match="no lane 'tcp'"):
        Client("h:1", lane="tcp")


def test_the_fastest_lane_is_taken(server):
    client = Client(server.address, token="t")
    client.null()
    assert courier.lane(client) == "inproc"
    code = "import sys; from kourou.courier import *; c = Client(sys.argv[1], token='t'); c.null(); print(lane(c))"
    output = subprocess.run([sys.executable, "-c", code, server.address], stdout=subprocess.PIPE, check=True, text=True)
    assert output.stdout.strip() == "local"
    courier.close(client)


FORKING = """
import os, sys
from kourou import courier
from kourou.courier import Client
client = Client(sys.argv[1], token="t", lane=sys.argv[2] or None)
other = Client(sys.argv[1], token="t", lane=sys.argv[2] or None)
assert client.echo(1) == 1
pid = os.fork()
if pid == 0:
    print(client.echo(2), other.echo(b"x" * 3_000_000) == b"x" * 3_000_000, courier.lane(client), flush=True)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert client.echo(3) == 3
"""


@pytest.mark.parametrize("lane", ["", "local", "grpc"])
def test_a_child_of_fork_connects_anew_and_leaves_its_parents_connection_alone(server, lane):
    command = [sys.executable, "-W", "ignore", "-c", FORKING, server.address, lane]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, timeout=40)
    assert done.stdout == f"2 True {lane or 'local'}\n"


def test_asyncio(server):
    client = Client(server.address, token="t", lane="local")

    async def main():
        futures = [asyncio.wrap_future(client.futures.echo(number)) for number in range(20)]
        return await asyncio.gather(*futures)

    assert asyncio.run(main()) == list(range(20))
    courier.close(client)


def test_a_stream_that_opens_while_its_call_is_still_being_sent_is_not_taken_for_given_up(server, monkeypatch):
    # Given a stream whose call's sender runs on just before the call is marked as answered
    complete = Reply.complete

    def late(self, *args):
        time.sleep(0.1)
        return complete(self, *args)

    monkeypatch.setattr(Reply, "complete", late)
    server.bind("numbers", lambda: (number for number in range(5)))
    client = Client(server.address, token="t", lane="inproc")
    # When, then
    assert list(client.futures.numbers().result()) == list(range(5))
    courier.close(client)


def test_nothing_is_sent_to_a_grpc_server_that_has_closed_though_another_thread_was_to_notice():
    # Given a client of whose connection some thread is about to read the end
    with Server(token="t") as server:
        server.bind("echo", lambda value: value)
        client: Any = Client(server.address, lane="grpc", token="t", wait_for_ready=False)
        assert client.echo(1) == 1
        connection = client._link.connection
        assert connection._reader._turn.acquire(timeout=10)
    # When it calls, then it is told that there is no server, not that the call may have run
    try:
        with pytest.raises(ServerUnavailable):
            client.echo(2)
    finally:
        connection._reader._turn.release()
    courier.close(client)


class Interface:
    def step(self, amount: int = 1) -> int:
        """Go on."""
        return amount

    @property
    def costly(self):
        raise AssertionError("properties are not evaluated")

    def set_courier_server(self, server):
        """Called by the node."""


def test_dir_lists_what_the_class_offers_and_once_connected_what_the_server_does(server):
    # Given a client that knows the class of the server's object, which offers something else.
    with Client(FakeTarget(), interface=Interface) as far, Client(AddressTarget(server.address, "t")) as client:
        assert dir(far) == ["futures", "step"]
        assert dir(client) == ["futures"]  # without a connection, nobody is asked
        assert str(inspect.signature(far.step)) == "(amount: int = 1) -> int"
        assert far.step.__doc__ == "Go on."
        # When it is connected, then it asks.
        client.null()
        assert "null" in dir(client)
        assert "null" in dir(client.futures)
        assert dir(courier.with_options(far, timeout_s=1)) == ["futures", "step"]


def test_dir_does_not_wait_for_a_server_that_is_gone(server):
    client = Client(AddressTarget(server.address, "t"), interface=Interface)
    client.null()
    server.stop()
    assert dir(client) == ["futures", "step"]
    courier.close(client)


@pytest.mark.parametrize("lane", LANES)
def test_submit_calls_a_method_and_does_not_wait(server, lane):
    server.bind("double", lambda x: 2 * x)
    with Client(AddressTarget(server.address, "t"), lane=lane) as client:
        assert courier.submit(client.double, 21).result(10) == 42
        assert courier.submit(courier.with_options(client, timeout_s=5).double, x=1).result(10) == 2


@pytest.mark.parametrize("word", ["remote", "options", "call", "call_one", "choose", "broadcast", "stream"])
def test_who_calls_as_in_ray_or_monarch_is_told_what_to_write(word):
    with courier.Client("localhost:1") as client, pytest.raises(AttributeError) as told:
        getattr(client.double, word)(21)
    assert f"has no .{word}(...): " in str(told.value)
    assert re.search(r"step\(|with_options\(", str(told.value))


def test_submit_and_the_functions_of_clients_say_what_they_take():
    with pytest.raises(TypeError, match=r"submit\(client\.step, 1\); got"):
        courier.submit(print, 1)
    with pytest.raises(TypeError, match="a client of a CourierNode, got"):
        courier.close(print)


def test_a_streams_deadline_is_for_its_start(server):
    # given a generator that looks at how long it may take
    def deadlines():
        while True:
            yield courier.current_call().deadline

    server.bind("deadlines", deadlines)
    with courier.closing(Client(server.address, token="t", timeout_s=30.0)) as client:
        # when its reader gives each item some time, then it may go on for ever
        stream = client.deadlines()
        assert [next(stream) for _ in range(3)] == [None] * 3
        stream.close()


def test_a_client_that_is_closed_while_it_connects_makes_no_call(server, monkeypatch):
    # given a call that is about to connect
    client: Any = Client(server.address, token="t", lane="local")
    dial, dialled, go_on = client._link._dial, threading.Event(), threading.Event()

    def late(*args):
        transport = dial(*args)
        dialled.set()
        assert go_on.wait(20)
        return transport

    monkeypatch.setattr(client._link, "_dial", late)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.echo, 1)
        assert dialled.wait(20)
        # when the client is closed, then the call is cancelled as those that were sent are, and nothing is left
        courier.close(client)
        go_on.set()
        with pytest.raises(CallCancelled):
            call.result()
    assert client._link.connection is None


def test_a_stream_that_another_thread_closes_while_an_item_is_taken_ends(server):
    # given a stream that another thread closes between the look for an item and its taking
    class Held(deque):
        def popleft(self):
            stream.close()
            return super().popleft()

    server.bind("numbers", lambda: (number for number in range(5)))
    with Client(server.address, token="t", lane="inproc") as client:
        stream = client.numbers()
        assert next(stream) == 0
        until(lambda: stream._buffer.frames, 20)
        stream._buffer.frames = Held(stream._buffer.frames)
        # when it is read on, then it is at its end
        assert list(stream) == []


@pytest.mark.parametrize("lane", LANES)
def test_credit_may_come_before_a_stream_has_begun(server, lane, monkeypatch):
    # given a reader that grants credit as soon as it hears of the stream
    start = AsyncGeneratorSender.start

    def late(self):
        self.credit(1)
        start(self)

    async def numbers():
        for number in range(5):
            yield number

    monkeypatch.setattr(AsyncGeneratorSender, "start", late)
    server.bind("numbers", numbers)
    with Client(server.address, token="t", lane=lane) as client:
        assert list(client.numbers()) == list(range(5))
