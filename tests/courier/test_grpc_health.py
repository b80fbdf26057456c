"""Health checking: who watches is told what is true now, and holds up nobody."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kourou.courier import Server
from kourou.courier.lanes.grpcio.health import Health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

pytestmark = pytest.mark.usefixtures("no_leaks")


class Call:
    """A watch as grpcio shows it to a servicer: answers may have to wait for the client, and it may end at any time."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_sending = threading.Event()
        self.end = lambda: None

    def add_callback(self, callback) -> bool:
        self.end = callback
        return True

    def send(self, answer) -> None:
        self.is_sending.set()
        assert self.may_go_on.wait(20)
        self.answers.append(None if answer is None else answer.status)


@pytest.fixture
def threads():
    with ThreadPoolExecutor() as pool:
        yield pool


def watched(threads) -> tuple[Health, Call]:
    health, call = Health(threads.submit), Call()
    health.Watch(health_pb2.HealthCheckRequest(), call, call.send)
    assert call.answers == [SERVING]
    call.is_sending.clear()
    return health, call


def test_a_watch_that_takes_nothing_keeps_nobody_and_is_told_the_last_state_only(threads):
    # Given a client who takes nothing
    health, call = watched(threads)
    call.may_go_on.clear()
    # When the state changes again and again, Then nobody waits
    for _ in range(5):
        health.set(healthy=False)
        assert call.is_sending.wait(20)
        health.set(healthy=True)
    health.set(healthy=False)
    # And once the client takes answers, it hears what is true now, and nothing twice
    call.may_go_on.set()
    threads.shutdown()
    assert call.answers in ([SERVING, NOT_SERVING], [SERVING, NOT_SERVING, SERVING, NOT_SERVING])


def test_a_watch_that_ends_while_it_is_told_something_holds_up_nothing(threads):
    # Given a client who is being told that the state changed
    health, call = watched(threads)
    call.may_go_on.clear()
    health.set(healthy=False)
    assert call.is_sending.wait(20)
    # When it goes, Then the thread that notices returns at once, and the next change concerns it no more
    call.end()
    call.may_go_on.set()
    health.set(healthy=True)
    threads.shutdown()
    assert call.answers in ([SERVING, NOT_SERVING], [SERVING, NOT_SERVING, SERVING])
    assert not health._watches


def test_a_server_that_stops_tells_those_who_watch_and_ends_their_calls():
    with Server(token="t") as server, grpc.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True)
        assert next(watch).status == SERVING
        # When the server stops
        server.stop()
        # Then they hear of it, and that this was the last answer
        assert [answer.status for answer in watch] == [NOT_SERVING]
