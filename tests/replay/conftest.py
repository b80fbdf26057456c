"""Servers for tests of replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from grpc_poller import _grpc_is_up
from kourou.replay import Client, Server, Table

__all__ = ["LANES", "Connect", "Serve", "_grpc_is_up", "connect", "serve"]

LANES = ["inproc", "local", "grpc"]

Serve = Callable[..., Server]
Connect = Callable[..., Client]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that end with the test."""
    servers: list[Server] = []

    def start(*tables: Table) -> Server:
        servers.append(Server(tables))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(params=LANES)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make clients, on each lane in turn, that end with the test."""
    clients: list[Client] = []

    def make(server: Server) -> Client:
        clients.append(Client(server.address, lane=request.param))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
