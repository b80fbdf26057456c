"""Clients that nobody closes."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from kourou import courier
from kourou.courier import Client, Server, disconnect
from polling import until


def sockets() -> int:
    return sum(1 for fd in Path("/proc/self/fd").iterdir() if _is_socket(fd))


def _is_socket(fd: Path) -> bool:
    try:
        return str(fd.readlink()).startswith("socket:")
    except OSError:
        return False


@pytest.mark.parametrize("lane", ["local", "grpc", "inproc"])
def test_a_dropped_client_closes_its_connection(lane):
    # Given a server with no connections, and a client of it
    with Server() as server:
        server.bind("echo", lambda value: value)
        before = sockets()
        client = Client(f"127.0.0.1:{server.port}", token=server.token, lane=lane)
        assert client.echo(1) == 1
        assert client.futures.echo(2).result(20) == 2
        # When nobody has the client any more
        del client
        gc.collect()
        # Then its sockets are closed
        until(lambda: sockets() <= before, 20)


@pytest.mark.parametrize("lane", ["local", "grpc", "inproc"])
def test_a_disconnected_client_connects_again(lane):
    # Given a client that has called
    with Server() as server:
        server.bind("echo", lambda value: value)
        client = Client(f"127.0.0.1:{server.port}", token=server.token, lane=lane)
        assert client.echo(1) == 1
        # When it is disconnected
        disconnect(client)
        # Then it has no lane, and its next call works
        assert courier.lane(client) is None
        assert client.echo(2) == 2
        courier.close(client)
