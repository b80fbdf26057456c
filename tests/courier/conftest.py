"""What the courier's tests share."""

import contextlib
from typing import Any

import grpc
import pytest


@pytest.fixture(scope="session", autouse=True)
def _grpc_is_up():
    """Keep gRPC's own poller open for the session: it comes with the first call, and would look like a leak."""
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        with contextlib.suppress(grpc.RpcError):
            call: Any = channel.unary_unary("/nobody/there")
            call(b"", timeout=1)
        yield
