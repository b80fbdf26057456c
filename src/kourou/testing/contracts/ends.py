"""Limits, clients with a wrong token, and the ends of servers and clients."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time

from kourou import courier
from kourou.courier import Client, new_token
from kourou.errors import (
    CallCancelled,
    ConnectionLost,
    DeadlineExceeded,
    RpcError,
    ServerOverloaded,
    ServerUnavailable,
    Unauthenticated,
)
from kourou.testing.contracts.serving import PATIENCE_S, connected, raised
from kourou.testing.polling import until


def check_a_full_queue_refuses(lane: str) -> None:
    """Beyond max_queue calls fail at once, and the others are answered."""
    with connected(lane, thread_pool_size=1, max_queue=2) as (_, target, client):
        first = client.futures.block()
        assert target.entered.acquire(timeout=PATIENCE_S)
        rest = [client.futures.block() for _ in range(5)]
        until(lambda: sum(future.done() for future in rest) == 3, PATIENCE_S, "three of five were refused")
        assert sum(isinstance(future.exception(), ServerOverloaded) for future in rest if future.done()) == 3
        target.release.set()
        assert first.result() == "released"
        assert sum(future.exception() is None for future in rest) == 2


def check_tokens(lane: str) -> None:
    """Another token gets in nowhere."""
    with connected(lane) as (server, target, _client):
        stranger = Client(server.address, lane=lane, token="wrong", timeout_s=PATIENCE_S)
        raised(Unauthenticated, stranger.echo, 1)
        assert isinstance(stranger.futures.echo(1).exception(), Unauthenticated)
        assert isinstance(raised(PermissionError, stranger.add, 1), RpcError)
        assert target.count == 0
        courier.close(stranger)


def check_stop_frees_everybody(lane: str) -> None:
    """stop() returns though a handler is stuck, and its caller gets an error."""
    with connected(lane) as (server, target, client):
        stuck = threading.Event()
        server.bind("stuck", stuck.wait)
        future = client.futures.stuck()
        until(lambda: server.metrics()["stuck"].in_flight == 1, PATIENCE_S, "the handler runs")
        start = time.monotonic()
        server.stop(grace_s=0.05)
        assert time.monotonic() - start < 3
        assert isinstance(future.exception(PATIENCE_S), CallCancelled | ConnectionLost)
        stuck.set()
        target.release.set()
        hurried = Client(server.address, lane=lane, token=server.token, wait_for_ready=False)
        raised(ServerUnavailable, hurried.echo, 1)
        raised(DeadlineExceeded, courier.with_options(client, timeout_s=0.2).echo, 1)


def check_closed_clients(lane: str) -> None:
    """close() ends the calls in flight, and the client."""
    with connected(lane) as (_, target, client):
        future = client.futures.block()
        assert target.entered.acquire(timeout=PATIENCE_S)
        courier.close(client)
        assert isinstance(future.exception(PATIENCE_S), CallCancelled)
        raised(CallCancelled, client.echo, 1)
        assert target.cancelled.wait(PATIENCE_S)


def check_clients_can_be_pickled(lane: str) -> None:
    """A copy of a client calls the same server, on the same lane."""
    with connected(lane) as (_, _target, client):
        copy = pickle.loads(pickle.dumps(client))
        assert copy.echo(2) == 2
        assert courier.lane(copy) == lane
        courier.close(copy)


_MORTAL = """
import sys
from kourou.courier import Server

server = Server(token=sys.stdin.readline().strip())
server.bind("echo", lambda value: value)
server.start()
print(server.address, flush=True)
sys.stdin.read()
"""


def check_a_peer_that_dies_in_the_middle(lane: str) -> None:
    """Killed while bulk goes both ways: all callers are told, and what came before stays theirs."""
    if lane == "inproc":
        return  # the peer is this process
    token, bulk = new_token(), bytearray(8 << 20)
    command = [sys.executable, "-c", _MORTAL]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{token}\n")
        server.stdin.flush()
        client = Client(server.stdout.readline().strip(), lane=lane, token=token, timeout_s=PATIENCE_S)
        try:
            kept = client.echo(bulk)
            futures = [client.futures.echo(bulk) for _ in range(6)]
            futures[0].result(PATIENCE_S)
            server.kill()
            errors = [future.exception(PATIENCE_S) for future in futures]
        finally:
            server.kill()
            courier.close(client)
    assert all(error is None or isinstance(error, ConnectionLost) for error in errors)
    kept[0] = 1
    assert kept == b"\1" + bytes(len(bulk) - 1)
