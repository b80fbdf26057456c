"""What the courier's tests share."""

import pytest

from grpc_poller import _grpc_is_up
from kourou.courier import Server

__all__ = ["_grpc_is_up", "server"]


@pytest.fixture
def server():
    with Server("learner/0", token="t") as server:
        server.bind("null", lambda: None)
        server.bind("echo", lambda value: value)
        yield server
