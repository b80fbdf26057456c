"""Who has not shown the token gets little: a few connections, for a moment, and no thread of its own."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kourou.courier import Client, Server
from kourou.courier.lanes.grpcio import relay, standard_services
from kourou.courier.lanes.loop import acceptor, quota
from kourou.courier.lanes.loop.quota import ConnectionQuota, max_unauthenticated
from polling import until
from strangers import as_stranger, needs_root

pytestmark = pytest.mark.usefixtures("no_leaks")

SERVING = health_pb2.HealthCheckResponse.SERVING


class Echo:
    def echo(self, value):
        return value


@pytest.fixture
def few(monkeypatch):
    """Room for ten strangers, five of one host."""
    monkeypatch.setattr(quota, "_MAX", 10)


@pytest.fixture
def server(few):
    with Server(token="t") as started:
        started.bind_object(Echo())
        yield started


def connect(server) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)), 20)


def test_the_longest_there_go_when_others_wait():
    # Given a room for four, with two of each of two hosts
    room: ConnectionQuota[str] = ConnectionQuota(4, timeout_s=1e6, crowded_timeout_s=-1.0)
    for name, host in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        room.add(name, host)
    # Then the first host has its share, and there is room for others
    assert (room.host_is_full("a"), room.host_is_full("b"), room.is_full) == (True, False, False)
    room.add("b2", "b")
    assert room.is_full
    # And those who are there may stay unless others wait
    assert room.overdue() == []
    assert room.overdue(others_wait=True) == ["a1", "a2", "b1", "b2"]
    assert room.overdue(of_host="b", others_wait=True) == ["b1", "b2"]
    room.discard("a1")
    room.discard("nobody")
    assert not room.is_full
    assert list(room) == ["a2", "b1", "b2"]


@pytest.mark.parametrize(("soft", "most"), [(64, 16), (1024, 256), (1 << 20, 256), (resource.RLIM_INFINITY, 256)])
def test_unauthenticated_connections_have_a_quarter_of_the_descriptors_at_most(monkeypatch, soft, most):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert max_unauthenticated() == most


def test_who_says_nothing_takes_no_more_descriptors_than_there_is_room_for(server, monkeypatch):
    monkeypatch.setattr(acceptor, "_CROWDED_TIMEOUT_S", 0.05)
    # Given a server, and its client
    with Client(server.address, token="t", lane="grpc", timeout_s=20) as client, contextlib.ExitStack() as stack:
        assert client.echo(1) == 1
        before = len(server._event_loop._connections)
        # When many connect and say nothing
        for _ in range(100):
            stack.enter_context(connect(server))
            assert len(server._event_loop._connections) <= before + 10
        # Then its client is served, and another one with the token gets in
        assert client.echo(2) == 2
        with Client(server.address, token="t", lane="grpc", timeout_s=20) as another:
            assert another.echo(3) == 3


def test_a_full_house_makes_those_of_other_hosts_wait_and_then_lets_them_in(server, monkeypatch):
    # Given as many strangers as there is room for, whom the server takes for those of hosts of their own
    monkeypatch.setattr(ConnectionQuota, "host_is_full", lambda *_: False)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(server))
        (tcp,) = [each for each in server._event_loop._acceptors.values() if each.listener.family == socket.AF_INET]
        until(lambda: tcp.is_paused or len(tcp.unauthenticated) == 10, 20)
        # When a client comes with the token, Then it gets in as soon as they had their time
        with Client(server.address, token="t", lane="grpc", timeout_s=20) as client:
            assert client.echo(1) == 1


def test_a_client_that_has_shown_the_token_takes_no_room(server):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.address, token="t", lane="grpc", timeout_s=20)) for _ in range(20)]
        assert [client.echo(1) for client in clients] == [1] * 20
        assert all(not each.unauthenticated for each in server._event_loop._acceptors.values())


# -- gRPC's standard services -------------------------------------------------------------------------------------


def _names_of_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_a_server_whose_health_nobody_asks_for_has_no_server_of_grpcio(server):
    with Client(server.address, token="t", lane="grpc", timeout_s=20) as client:
        assert client.echo(1) == 1
    with Client(server.address, token="t", timeout_s=20) as client:  # which asks first what is there
        assert client.echo(1) == 1
    assert server._grpc._standard is None
    assert "kourou-grpc-relay" not in _names_of_threads()


@contextlib.contextmanager
def checker(server):
    """A connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def test_those_who_ask_for_its_health_share_one_thread_and_make_room(server, monkeypatch):
    # Given room for four, two of them of this host, and clients who stay
    monkeypatch.setattr(relay, "_CROWDED_TIMEOUT_S", -1.0)
    server._grpc._relays._relays = ConnectionQuota(4, timeout_s=1e6, crowded_timeout_s=-1.0)
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            health: Any = stack.enter_context(checker(server))
            # When one more comes, then it is answered
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True).status == SERVING
            assert len(server._grpc._relays._relays) <= 2
        assert _names_of_threads().count("kourou-grpc-relay") == 1


def test_who_watches_its_health_keeps_no_thread(server):
    with contextlib.ExitStack() as stack:
        # Given clients who watch, and a request that never comes
        watches = []
        for _ in range(6):
            health: Any = stack.enter_context(checker(server))
            watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True)
            assert next(watch).status == SERVING
            watches.append(watch)
        # Then there is a thread or two for all of them
        assert _names_of_threads().count("kourou-grpc-stream") <= 2
        # And they are told when it changes
        server.set_is_healthy(False)
        assert {next(watch).status for watch in watches} == {health_pb2.HealthCheckResponse.NOT_SERVING}
        for watch in watches:
            watch.cancel()


def test_who_watches_what_there_is_not_is_told_so_and_not_remembered(server):
    unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    with checker(server) as health:
        for number in range(20):
            watch: Any = health.Watch(health_pb2.HealthCheckRequest(service=f"x{number}"), timeout=20)
            assert [answer.status for answer in watch] == [unknown]
    assert not server._grpc._standard._health._watches


def test_requests_that_never_come_take_a_bounded_number_of_threads(server):
    # Given clients who begin more calls than a connection may have, and say no more
    silence = threading.Event()

    def nothing():
        silence.wait(60)
        yield from ()

    with contextlib.ExitStack() as stack:
        stack.callback(silence.set)
        calls = []
        for _ in range(3):
            channel = stack.enter_context(
                grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
            )
            check: Any = channel.stream_unary("/grpc.health.v1.Health/Check")
            calls += [check.future(nothing(), timeout=60, wait_for_ready=True) for _ in range(10)]
            # When another one asks, Then it is answered
            with checker(server) as health:
                assert health.Check(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True).status == SERVING
        assert _names_of_threads().count("kourou-grpc-stream") <= 4 * standard_services._MAX_STREAMS
        for call in calls:
            call.cancel()


def test_the_standard_services_listen_where_nobody_else_comes(server, tmp_path):
    # Given a server that was asked for its health
    with checker(server) as health:
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True).status == SERVING
        # Then its socket lies in a private folder
        path = Path(server._grpc._standard._path)
        assert path.is_socket()
        assert path.parent.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert not path.exists()


@needs_root
def test_another_user_cannot_reach_them(server):
    with checker(server) as health:
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=20, wait_for_ready=True).status == SERVING
        script = (
            "try:\n"
            "    socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
            "except OSError as error:\n"
            "    print(type(error).__name__)\n"
        )
        for path in (server._grpc._standard._path, server.endpoint.local):
            stranger = as_stranger(script, path)
            said, _ = stranger.communicate(timeout=20)
            assert said.split() == ["PermissionError"]
