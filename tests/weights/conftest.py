from __future__ import annotations

from collections.abc import Iterator

import pytest

from kourou.weights import Client, Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(keep=2) as server:
        yield server


@pytest.fixture(params=["inproc", "local", "grpc"])
def lane(request) -> str:
    return request.param


@pytest.fixture
def client(server: Server, lane: str) -> Iterator[Client]:
    with Client(server.address, lane=lane) as client:
        yield client
